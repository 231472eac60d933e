"""Sends runs with tasks until it is killed; or, told to, lets all of them come to an end.

A task leaves a line in a file each time that it is done, so that what ran can be compared with
what was counted.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from pathlib import Path

from killing import settle

from flowstore import Retry, WorkflowEvent, WorkflowManager

TASKS = 6


def note(ledger: str, key: str) -> None:
    with Path(ledger).open("a", encoding="utf-8") as file:
        file.write(f"{key}\n")


def remote(number: int, ledger: str, idempotency_key: str) -> int:
    time.sleep(0.002)
    note(ledger, idempotency_key)
    return number


def build(path):
    workflow = WorkflowManager(path)
    ledger = f"{path}-ledger"
    away = workflow.task(executor="processes")(remote)

    @workflow.task(max_concurrency=20)
    async def waiting(number: int, idempotency_key: str) -> int:
        await asyncio.sleep(0.003 * number)
        note(ledger, idempotency_key)
        return number

    @workflow.task(retry=Retry(attempts=50, delay=0.001, jitter=0), timeout=20)
    def stumbling(number: int, idempotency_key: str, progress) -> int:
        progress(number)
        note(ledger, idempotency_key)
        if os.urandom(1)[0] < 128:
            raise ConnectionError("try again")
        return number

    @workflow.on("go")
    async def go(event, ctx):
        for number in range(TASKS // 2):
            ctx.submit(waiting, number)
            ctx.submit(stumbling, TASKS // 2 + number)
        if event.data["away"]:
            ctx.submit(away, TASKS, ledger)
        ctx.submit_external("never", timeout=0.02)
        token = ctx.submit_external("outside")
        yield WorkflowEvent("given", token)

    @workflow.on("given")
    async def complete(event):
        # As an outside system does that is not sure whether it has: more than once.
        for _ in range(2):
            await workflow.complete_task(event.data, -1)

    _count(workflow)
    return workflow


def _count(workflow):
    @workflow.on("task.failed")
    async def expire(event, ctx):
        ctx.state["failed"] = [*ctx.state.get("failed", []), event.data["exception"]]

    @workflow.on("task.completed")
    async def count(event, ctx):
        ctx.state.setdefault("seen", []).append([event.data["task_id"], event.data["result"]])


async def send(path):
    workflow = build(path)
    async with workflow:
        for number in itertools.count():
            name = f"{os.getpid()}-{number}"
            event = WorkflowEvent("go", {"away": number % 4 == 0})
            await workflow.send(event, correlation_id=name)
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()
            if number % 5 == 4:  # else they would only ever be submitted
                await workflow.run(f"{os.getpid()}-{number - 4}").wait()


async def drain(path):
    workflow = build(path)
    async with workflow:
        await settle(workflow)


if __name__ == "__main__":
    asyncio.run((send if sys.argv[1] == "send" else drain)(sys.argv[2]))
