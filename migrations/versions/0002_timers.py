"""Timers, and how many of them a run has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table, and the count to what is known of a run."""
    op.add_column(
        "run", sa.Column("waits", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    )
    op.create_table(
        "timer",
        sa.Column("seq", _identity, autoincrement=True, nullable=False),
        sa.Column("run_id", _identity, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("causation_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_timer")),
        sa.UniqueConstraint("run_id", "key", name=op.f("uq_timer_run_id_key")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_timer_run_id_run")),
    )
    op.create_index("ix_timer_due", "timer", ["workflow", "due_at"])


def downgrade() -> None:
    """Refuse: what is due would be lost."""
    raise CommandError(
        "there is no way down: put the backup back that the upgrade made, *.backup-0001"
    )
