"""Which code it was, what it arranged, failed steps, hashes, and what pruning keeps."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PAGE = 10_000

_EVENTS = sa.text(
    "SELECT run.correlation_id, event.seq, event.run_id, event.position, event.id, event.name, "
    "event.version, event.data, event.metadata, event.error, event.causation_id, "
    "event.created_at, event.expires_at FROM event JOIN run ON run.id = event.run_id "
    "WHERE event.run_id > :run OR (event.run_id = :run AND event.position > :position) "
    "ORDER BY event.run_id, event.position LIMIT :most"
)


def upgrade() -> None:
    """Add the columns and the table, and hash the events that are there."""
    op.add_column("run", sa.Column("chain", sa.LargeBinary(), nullable=True))
    op.add_column("event", sa.Column("hash", sa.LargeBinary(), nullable=True))
    op.add_column("transition", sa.Column("code", sa.Text(), nullable=True))
    op.add_column("transition", sa.Column("arranged", sa.Text(), nullable=True))
    op.add_column("step", sa.Column("error", sa.Text(), nullable=True))
    op.create_table(
        "pruned",
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("pruned_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("correlation_id", "event_id", name=op.f("pk_pruned")),
        sqlite_with_rowid=False,
    )
    _hash_events()


def _hash_events() -> None:
    connection = op.get_bind()
    chains: dict[int, bytes] = {}
    for page in _pages(connection):
        hashes: list[dict[str, Any]] = []
        for name, seq, run_id, *cells in page:
            before = chains.get(run_id) or blake2b(name.encode(), digest_size=20).digest()
            digest = blake2b(before + orjson.dumps(cells), digest_size=20).digest()
            chains[run_id] = digest
            hashes.append({"seq": seq, "hash": digest})
        connection.execute(sa.text("UPDATE event SET hash = :hash WHERE seq = :seq"), hashes)
    ends = [{"run": run_id, "chain": chain} for run_id, chain in chains.items()]
    if ends:
        connection.execute(sa.text("UPDATE run SET chain = :chain WHERE id = :run"), ends)


def _pages(connection: sa.Connection) -> Iterator[list[Any]]:
    run = position = 0
    while True:
        place = {"run": run, "position": position, "most": _PAGE}
        page = [list(row) for row in connection.execute(_EVENTS, place)]
        if not page:
            return
        yield page
        run, position = page[-1][2], page[-1][3]


def downgrade() -> None:
    """Refuse: the hashes, and what pruning has kept, would be lost."""
    raise CommandError(
        "there is no way down: put the backup back that the upgrade made, *.backup-0003"
    )
