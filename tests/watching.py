"""How tests look at what a run came to."""

from __future__ import annotations

import contextlib
import sqlite3


async def collect(events):
    return [event async for event in events]


async def names(events):
    return [event.name async for event in events]


async def log(workflow, correlation_id):
    """Return position and name of each event of the run."""
    return [(event.position, event.name) async for event in workflow.run(correlation_id).events()]


async def transitions(workflow, correlation_id):
    """Return position, handler, attempt and outcome of each transition of the run."""
    found = await (await workflow._runtime.reader()).read_transitions(correlation_id)
    return [(row.position, row.handler, row.attempt, row.outcome) for row in found]


async def drops(workflow, correlation_id):
    """Return event id and reason of each drop of the run, the oldest first."""
    found = await (await workflow._runtime.reader()).list_drops(correlation_id)
    return [(drop.event_id, drop.reason) for drop in reversed(found)]


def query(path, sql, *parameters):
    """Ask the database file itself."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, parameters).fetchall()
