"""Tasks, parked handlers, collected events, streams and cron."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables, the count of tasks to what is known of a run, and a timer's task."""
    op.add_column(
        "run", sa.Column("tasks", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column("timer", sa.Column("task_id", sa.Text(), nullable=True))
    _create_task()
    _create_parked()
    _create_collected()
    _create_stream()
    _create_cron()
    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )


def downgrade() -> None:
    """Refuse: what is outstanding would be lost."""
    raise CommandError("put the backup back that the upgrade made: there is no way down")


def _run_id() -> sa.Column[int]:
    return sa.Column("run_id", _identity, nullable=False)


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f(f"fk_{table}_run_id_run"))


def _create_task() -> None:
    op.create_table(
        "task",
        _run_id(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("ready_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("causation_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "id", name=op.f("pk_task")),
        _of_run("task"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_task_pending",
        "task",
        ["owner", "run_id", "submitted_at"],
        sqlite_where=sa.text("status = 'pending' AND kind = 'internal'"),
    )


def _create_parked() -> None:
    op.create_table(
        "parked",
        _run_id(),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("condition", sa.Text(), nullable=True),
        sa.Column("answers", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("state_number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "position", "handler", name=op.f("pk_parked")),
        _of_run("parked"),
        sqlite_with_rowid=False,
    )


def _create_collected() -> None:
    op.create_table(
        "collected",
        _run_id(),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "key", "event_id", name=op.f("pk_collected")),
        _of_run("collected"),
        sqlite_with_rowid=False,
    )


def _create_stream() -> None:
    op.create_table(
        "stream",
        _run_id(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("chunks", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "id", name=op.f("pk_stream")),
        _of_run("stream"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chunk",
        _run_id(),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "stream_id", "first", name=op.f("pk_chunk")),
        _of_run("chunk"),
        sqlite_with_rowid=False,
    )


def _create_cron() -> None:
    op.create_table(
        "cron",
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workflow", "name", name=op.f("pk_cron")),
        sqlite_with_rowid=False,
    )
