"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table of an empty database."""
    _create_run()
    _create_event()
    _create_transition()
    _create_snapshot()
    _create_step()
    _create_drop()
    _create_worker()


def downgrade() -> None:
    """Refuse: there is nothing before the first revision."""
    raise CommandError("there is nothing before the first revision: delete the database instead")


def _run_id() -> sa.Column[int]:
    return sa.Column("run_id", _identity, nullable=False)


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f(f"fk_{table}_run_id_run"))


def _create_run() -> None:
    op.create_table(
        "run",
        sa.Column("id", _identity, autoincrement=True, nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("head", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("state_version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("ready_at", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("lineage", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("correlation_id", name=op.f("uq_run_correlation_id")),
    )
    op.create_index(
        "ix_run_pending",
        "run",
        ["workflow", "owner"],
        sqlite_where=sa.text("status = 'running'"),
    )


def _create_event() -> None:
    op.create_table(
        "event",
        sa.Column("seq", _identity, autoincrement=True, nullable=False),
        _run_id(),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("causation_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_event")),
        sa.UniqueConstraint("run_id", "position", name=op.f("uq_event_run_id_position")),
        sa.UniqueConstraint("run_id", "id", name=op.f("uq_event_run_id_id")),
        _of_run("event"),
    )


def _create_transition() -> None:
    op.create_table(
        "transition",
        _run_id(),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "position", "number", name=op.f("pk_transition")),
        _of_run("transition"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_transition_dead",
        "transition",
        ["started_at"],
        sqlite_where=sa.text("outcome = 'dead'"),
    )


def _create_snapshot() -> None:
    op.create_table(
        "snapshot",
        _run_id(),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f("pk_snapshot")),
        _of_run("snapshot"),
        sqlite_with_rowid=False,
    )


def _create_step() -> None:
    key = ("run_id", "position", "handler", "name", "number")
    op.create_table(
        "step",
        _run_id(),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("duration", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_step")),
        _of_run("step"),
        sqlite_with_rowid=False,
    )


def _create_drop() -> None:
    op.create_table(
        "drop",
        sa.Column("seq", _identity, autoincrement=True, nullable=False),
        _run_id(),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("handler", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_drop")),
        _of_run("drop"),
    )
    op.create_index("ix_drop_run_id", "drop", ["run_id"])


def _create_worker() -> None:
    op.create_table(
        "worker",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
