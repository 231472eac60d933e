"""Handlers that fail on purpose, and how often they may."""

# ruff: noqa: ARG002 - handlers have the parameters that users would write

from __future__ import annotations

from flowstore import Retry, WorkflowEvent

THRICE = Retry(attempts=3, delay=1, jitter=0)


def fail_once(ctx):
    """Fail in the first attempt."""
    if ctx.attempt == 1:
        raise ConnectionError("no answer")


class Failing:
    """A handler that fails a number of times and remembers when it was called."""

    def __init__(self, clock, failures, error=None):
        self.clock = clock
        self.failures = failures
        self.error = error or ConnectionError("no answer")
        self.times = []
        self.attempts = []

    async def __call__(self, event, ctx):
        self.times.append(self.clock.now())
        self.attempts.append(ctx.attempt)
        ctx["tries"] = ctx.get("tries", 0) + 1
        if len(self.times) <= self.failures:
            ctx["left behind"] = True
            ctx.emit(WorkflowEvent("never sent"))
            raise self.error

    @property
    def seconds(self):
        """When it was called, from the first call on."""
        return [(time - self.times[0]) / 1_000_000 for time in self.times]
