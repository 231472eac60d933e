"""The tables: the one source of the schema, for every dialect and for the migrations.

Times are microseconds since 1970, UTC. JSON is text, written once and read back as it was.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives a 64-bit rowid only to a column whose type is exactly INTEGER.
_Identity = BigInteger().with_variant(Integer(), "sqlite")


def _run_column() -> Column[int]:
    return Column("run_id", _Identity, ForeignKey("run.id"), nullable=False)


run = Table(
    "run",
    metadata,
    Column("id", _Identity, primary_key=True, autoincrement=True),
    Column("correlation_id", Text, nullable=False, unique=True),
    Column("workflow", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("head", BigInteger, nullable=False),
    Column("cursor", BigInteger, nullable=False),
    Column("state_version", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text),
    Column("ready_at", BigInteger),
    Column("result", Text),
    Column("reason", Text),
    Column("lineage", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # How much is outstanding while there is no event to handle: timers, external tasks, parked
    # handlers and collected events; and tasks under way.
    Column("waits", BigInteger, nullable=False, server_default=text("0")),
    Column("tasks", BigInteger, nullable=False, server_default=text("0")),
    # The hash of the newest event: see flowstore.store.chain.
    Column("chain", LargeBinary),
    # What a worker looks for: only runs with something to handle are in this index.
    Index(
        "ix_run_pending",
        "workflow",
        "owner",
        sqlite_where=text("status = 'running'"),
    ),
)

event = Table(
    "event",
    metadata,
    Column("seq", _Identity, primary_key=True, autoincrement=True),
    _run_column(),
    Column("position", BigInteger, nullable=False),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("data", Text),
    Column("metadata", Text),
    Column("error", Text),
    Column("causation_id", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    # Chained over the run: see flowstore.store.chain.
    Column("hash", LargeBinary),
    UniqueConstraint("run_id", "position"),
    UniqueConstraint("run_id", "id"),
)

transition = Table(
    "transition",
    metadata,
    _run_column(),
    Column("position", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("handler", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("change", Text),
    Column("error", Text),
    Column("traceback", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("duration", BigInteger, nullable=False),
    # Which code it was: see flowstore.fingerprint.
    Column("code", Text),
    # What it began and ended beside events and state: see flowstore.store.arranged.
    Column("arranged", Text),
    PrimaryKeyConstraint("run_id", "position", "number"),
    Index(
        "ix_transition_dead",
        "started_at",
        sqlite_where=text("outcome = 'dead'"),
    ),
    sqlite_with_rowid=False,
)

snapshot = Table(
    "snapshot",
    metadata,
    _run_column(),
    Column("position", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    PrimaryKeyConstraint("run_id", "position"),
    sqlite_with_rowid=False,
)

step = Table(
    "step",
    metadata,
    _run_column(),
    Column("position", BigInteger, nullable=False),
    Column("handler", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("result", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("duration", BigInteger, nullable=False),
    # What its function raised, if it failed; then there is no result.
    Column("error", Text),
    PrimaryKeyConstraint("run_id", "position", "handler", "name", "number"),
    sqlite_with_rowid=False,
)

drop = Table(
    "drop",
    metadata,
    Column("seq", _Identity, primary_key=True, autoincrement=True),
    _run_column(),
    Column("event_id", Text),
    Column("name", Text),
    Column("position", BigInteger),
    Column("handler", Text),
    Column("reason", Text, nullable=False),
    Column("detail", Text),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_drop_run_id", "run_id"),
)

timer = Table(
    "timer",
    metadata,
    Column("seq", _Identity, primary_key=True, autoincrement=True),
    _run_column(),
    Column("key", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("data", Text),
    Column("metadata", Text),
    Column("error", Text),
    Column("causation_id", Text),
    Column("created_at", BigInteger, nullable=False),
    # The external task that ends when this fires, unless it has ended before.
    Column("task_id", Text),
    UniqueConstraint("run_id", "key"),
    Index("ix_timer_due", "workflow", "due_at"),
)

task = Table(
    "task",
    metadata,
    _run_column(),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("arguments", Text),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("owner", Text),
    Column("ready_at", BigInteger),
    Column("error", Text),
    Column("submitted_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    # The event whose handler submitted it.
    Column("causation_id", Text),
    PrimaryKeyConstraint("run_id", "id"),
    # What a worker takes over: external tasks and those that have ended are not in it.
    Index(
        "ix_task_pending",
        "owner",
        "run_id",
        "submitted_at",
        sqlite_where=text("status = 'pending' AND kind = 'internal'"),
    ),
    sqlite_with_rowid=False,
)

parked = Table(
    "parked",
    metadata,
    _run_column(),
    Column("position", BigInteger, nullable=False),
    Column("handler", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text),
    Column("condition", Text),
    Column("answers", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("state_number", BigInteger, nullable=False),
    PrimaryKeyConstraint("run_id", "position", "handler"),
    sqlite_with_rowid=False,
)

collected = Table(
    "collected",
    metadata,
    _run_column(),
    Column("key", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    PrimaryKeyConstraint("run_id", "key", "event_id"),
    sqlite_with_rowid=False,
)

stream = Table(
    "stream",
    metadata,
    _run_column(),
    Column("id", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("chunks", BigInteger, nullable=False),
    Column("error", Text),
    PrimaryKeyConstraint("run_id", "id"),
    sqlite_with_rowid=False,
)

chunk = Table(
    "chunk",
    metadata,
    _run_column(),
    Column("stream_id", Text, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    PrimaryKeyConstraint("run_id", "stream_id", "first"),
    sqlite_with_rowid=False,
)

cron = Table(
    "cron",
    metadata,
    Column("workflow", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("workflow", "name"),
    sqlite_with_rowid=False,
)

# Runs that were removed, by correlation_id, and the ids of their events that came from outside.
pruned = Table(
    "pruned",
    metadata,
    Column("correlation_id", Text, nullable=False),
    # The empty text stands for the run itself; its position is the last one that it had.
    Column("event_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("pruned_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("correlation_id", "event_id"),
    sqlite_with_rowid=False,
)

setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

worker = Table(
    "worker",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("lease", BigInteger, nullable=False),
)

TABLES = tuple(metadata.sorted_tables)
