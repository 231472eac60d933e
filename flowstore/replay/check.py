"""Checking code against recorded runs: which of them go another way now, and where first."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from flowstore.errors import FlowstoreError
from flowstore.replay.accepted import Accepted, AcceptedChanges, Trait, paths_of
from flowstore.replay.difference import ignorable
from flowstore.replay.rerun import rerun
from flowstore.replay.steps import named

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from flowstore.replay.report import Divergence, Report
    from flowstore.replay.rerun import Workflow
    from flowstore.store.archive import Archive

Outcome = Literal["identical", "diverged", "unreadable"]

IDENTICAL: Final = "identical"
DIVERGED: Final = "diverged"
UNREADABLE: Final = "unreadable"

WHOLE: Final = frozenset({"state", "emitted", "arranged"})
"""Kinds of divergences in which whole values are compared."""

_logger = logging.getLogger("flowstore.check")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of checking one run.

    Attributes:
        correlation_id: the run.
        outcome: ``identical``: nothing differs but what is ignored or accepted; ``diverged``;
            ``unreadable``: its record could not be executed again.
        report: what its re-execution came to; None if it is unreadable.
        accepted: divergences that are intended, with what says so.
        fresh: divergences that nothing says are intended. One is found and the rest of the run not
            looked at, unless all are asked for.
        problem: why it is unreadable.
        seconds: how long it took.
    """

    correlation_id: str
    outcome: Outcome
    report: Report | None = None
    accepted: tuple[tuple[Divergence, tuple[Accepted, ...]], ...] = ()
    fresh: tuple[Divergence, ...] = ()
    problem: str | None = None
    seconds: float = 0.0

    @property
    def divergence(self) -> Divergence | None:
        """The first divergence that is not intended."""
        return self.fresh[0] if self.fresh else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        report = self.report
        return {
            "correlation_id": self.correlation_id,
            "outcome": self.outcome,
            "status": None if report is None else report.status,
            "events": None if report is None else report.events,
            "until": None if report is None else report.until,
            "divergence": None if self.divergence is None else _json(self.divergence),
            "accepted": [_json(divergence) for divergence, _ in self.accepted],
            "problem": self.problem,
        }


@dataclass(slots=True, kw_only=True)
class Group:
    """Divergences of the same handler and kind, which are likely to have one cause.

    Attributes:
        trait: the handler and the kind.
        found: the divergences, each with its run.
    """

    trait: Trait
    found: list[tuple[str, Divergence]] = field(default_factory=list[tuple[str, "Divergence"]])

    @property
    def runs(self) -> list[str]:
        """The runs, in the order in which they were checked."""
        return list(dict.fromkeys(run for run, _ in self.found))

    @property
    def paths(self) -> tuple[str, ...]:
        """Where they differ, all runs taken together, in alphabetical order."""
        found = {path for _, divergence in self.found for path in paths_of(divergence)}
        return tuple(sorted(found, key=lambda path: (path.lstrip("+-"), path)))

    def accept(self, reason: str, run: str | None = None) -> Accepted:
        """Return what says that all of this is intended.

        Args:
            reason: why.
            run: only in this run; None for any.
        """
        return Accepted(trait=self.trait, paths=self.paths, reason=reason, run=run)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "handler": self.trait.handler,
            "kind": self.trait.kind,
            "detail": self.trait.detail,
            "paths": list(self.paths),
            "runs": len(self.runs),
            "example": self.runs[0],
        }


def grouped(verdicts: Iterable[Verdict]) -> list[Group]:
    """Return the divergences that nothing says are intended, grouped by how; most runs first."""
    found: dict[Trait, Group] = {}
    for verdict in verdicts:
        for divergence in verdict.fresh:
            trait = Trait.of(divergence)
            group = found.setdefault(trait, Group(trait=trait))
            group.found.append((verdict.correlation_id, divergence))
    return sorted(found.values(), key=lambda group: -len(group.runs))


@dataclass(slots=True)
class Findings:
    """What came of checking many runs.

    Attributes:
        verdicts: one for each run, in the order in which they were checked.
    """

    verdicts: list[Verdict] = field(default_factory=list[Verdict])

    def count(self, outcome: Outcome) -> int:
        """Return how many runs came to this."""
        return sum(each.outcome == outcome for each in self.verdicts)

    @property
    def events(self) -> int:
        """How many events had their handlers called again."""
        return sum(each.report.events for each in self.verdicts if each.report is not None)

    @property
    def is_good(self) -> bool:
        """Whether all runs were read and none diverges."""
        return all(each.outcome == IDENTICAL for each in self.verdicts)


class Checker:
    """Executes runs again with the code at hand.

    Args:
        workflow: the code.
        ignore: paths that do not count; see `rerun`.
        live: names of steps that really run; see `rerun`.
        accepted: changes that are intended.
        guard: end a replay where a handler reaches outside.
        finds_all: look for every divergence of a run, and not for its first alone.

    Raises:
        InvalidValueError: a path is none that a difference can have, or ``live`` is a text.
    """

    def __init__(
        self,
        workflow: Workflow,
        *,
        ignore: Sequence[str] = (),
        live: Collection[str] = (),
        accepted: AcceptedChanges | None = None,
        guard: bool = True,
        finds_all: bool = False,
    ) -> None:
        self._workflow = workflow
        self._ignore = ignorable(ignore)
        self._live = named(live)
        self._guard = guard
        self._finds_all = finds_all
        self.accepted = AcceptedChanges() if accepted is None else accepted

    async def check(self, archive: Archive) -> Verdict:
        """Execute one run again; what is wrong with its record is part of the verdict."""
        started = time.perf_counter()
        name = archive.run.correlation_id
        judging = _Judging(self.accepted, name, finds_all=self._finds_all)
        try:
            report = await rerun(
                self._workflow,
                archive,
                ignore=self._ignore,
                live=self._live,
                guard=self._guard,
                accept=judging,
            )
        except FlowstoreError as error:
            return Verdict(correlation_id=name, outcome=UNREADABLE, problem=str(error))
        except Exception as error:
            # A record that no one has foreseen ends no check of thousands of others.
            _logger.debug("run %r cannot be executed again", name, exc_info=True)
            told = f"{type(error).__name__}: {error}"
            problem = f"its record is damaged ({told}); flowstore verify may tell where"
            return Verdict(correlation_id=name, outcome=UNREADABLE, problem=problem)
        self.accepted.see(entry for _, entries in judging.accepted for entry in entries)
        return Verdict(
            correlation_id=name,
            outcome=DIVERGED if judging.fresh else IDENTICAL,
            report=report,
            accepted=tuple(judging.accepted),
            fresh=tuple(judging.fresh),
            seconds=time.perf_counter() - started,
        )


class _Judging:
    """Tells which divergences of one run are intended."""

    def __init__(self, accepted: AcceptedChanges, run: str, *, finds_all: bool) -> None:
        self._known = accepted
        self._run = run
        self._finds_all = finds_all
        self.accepted: list[tuple[Divergence, tuple[Accepted, ...]]] = []
        self.fresh: list[Divergence] = []

    def __call__(self, divergence: Divergence) -> bool:
        entries = self._known.covering(divergence, self._run)
        if entries:
            self.accepted.append((_slim(divergence), tuple(entries)))
            return True
        self.fresh.append(_slim(divergence))
        return self._finds_all


def _slim(divergence: Divergence) -> Divergence:
    """Leave out whole states and events where the differences say it all: runs may be many."""
    if divergence.kind in WHOLE and divergence.differences:
        return replace(divergence, expected=None, actual=None)
    return divergence


def _json(divergence: Divergence) -> dict[str, Any]:
    found = divergence.to_json()
    if divergence.kind in WHOLE and divergence.differences:
        del found["expected"], found["actual"]
    return found


def unreadable(correlation_id: str, error: Exception) -> Verdict:
    """Return the verdict on a run that could not even be read."""
    return Verdict(correlation_id=correlation_id, outcome=UNREADABLE, problem=str(error))
