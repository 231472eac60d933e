"""Hiding values of runs, so that these can be passed on."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from flowstore.errors import FlowstoreError, StoreCorruptError
from flowstore.replay.portable import redacted_state
from flowstore.replay.portable.checks import check_hashes
from flowstore.replay.portable.fields import FieldError, an_object
from flowstore.replay.portable.hiding import Hiding, Tokens
from flowstore.replay.portable.paths import ROOTS, Pattern, Walk, below, parse
from flowstore.replay.portable.strict_json import dumped
from flowstore.store import chain
from flowstore.store.base import CollectedRow, ParkedRow, TaskRow, TimerRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.base import ChunkRow, RunRow, StepRow, StoredEvent, TransitionRow

_MADE_ID: Final = re.compile(r"\d+/.+/[a-z]?\d+(?:/.*)?", re.DOTALL)
"""What ids look like that are made of an event's position, as they are in the marks of streams."""

_LOOSE: Final = frozenset({"state"})


class Redaction:
    """What is to be hidden in an export.

    The same value is hidden as the same text in all runs of the export, and as another in the
    next: the key is random and kept nowhere.

    Args:
        paths: where the values are, such as ``data.email``; see docs/portable-runs.md.

    Raises:
        ConfigurationError: a path is not understood.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self.patterns: dict[str, list[Pattern]] = {root: [] for root in ROOTS}
        for path in self.paths:
            root, pattern = parse(path)
            self.patterns[root].append(pattern)
        self._tokens = Tokens(secrets.token_bytes(32))
        self._matched: set[str] = set()

    @property
    def unmatched(self) -> list[str]:
        """Return the paths that have led to nothing so far."""
        return [path for path in self.paths if path not in self._matched]

    def redacted(self, archive: Archive) -> Archive:
        """Return a run without what is to be hidden, its hashes made anew.

        Raises:
            StoreCorruptError: its hashes do not fit, which would be hidden as well; or it cannot
                be read.
        """
        if not self.paths:
            return archive
        try:
            check_hashes(archive)
            found = _Search(self.patterns, self._matched.add).secrets_of(archive)
            self._tokens.forget()
            return _Run(self.patterns, self._tokens, Hiding(self._tokens, found)).redacted(archive)
        except (FieldError, FlowstoreError, LookupError, TypeError, ValueError) as error:
            name = archive.run.correlation_id
            raise StoreCorruptError(
                f"run {name!r} cannot be redacted: {error}; `flowstore verify` tells more"
            ) from error


class _Search:
    """Finds the texts that are to be hidden in a run."""

    def __init__(self, patterns: dict[str, list[Pattern]], matched: Any) -> None:
        self._patterns = patterns
        self._found: set[str] = set()
        self._walk = Walk(self._leaf, lambda key: key, matched)

    def _leaf(self, value: Any, is_hidden: bool) -> Any:  # noqa: FBT001 - a callback
        if is_hidden and type(value) is str:
            self._found.add(value)
        return value

    def _look(self, root: str, text: str | None) -> None:
        patterns = self._patterns[root]
        if patterns and text is not None:
            self._value(orjson.loads(text), root)

    def _value(self, value: Any, root: str) -> None:
        self._walk.value(value, self._patterns[root], is_exact=root not in _LOOSE)

    def secrets_of(self, archive: Archive) -> set[str]:
        """Return the texts."""
        for event in archive.events:
            self._look("data", event.data)
            self._look("metadata", event.metadata)
        for timer in archive.timers:
            self._look("data", timer.data)
            self._look("metadata", timer.metadata)
        for step in archive.steps:
            patterns = below(self._patterns["steps"], step.name)
            if patterns and step.result is not None:
                self._walk.value(orjson.loads(step.result), patterns, is_exact=True)
        for row in archive.transitions:
            for cells in _arranged(row.arranged).get("timers", ()):
                self._look("data", TimerRow(0, *cells).data)
                self._look("metadata", TimerRow(0, *cells).metadata)
        if self._patterns["state"]:
            for snapshot in archive.snapshots:
                self._look("state", snapshot.state)
            redacted_state.visit(archive.transitions, self._walk, self._patterns["state"])
        edits = _edits(archive.run.lineage)
        for root in ("data", "metadata"):
            self._value(edits.get("event", {}).get(root), root)
        self._value(edits.get("state"), "state")
        return self._found


class _Run:
    """Redacts one run."""

    def __init__(self, patterns: dict[str, list[Pattern]], tokens: Tokens, hiding: Hiding) -> None:
        self._patterns = patterns
        self._tokens = tokens
        self._hiding = hiding
        self._walk = Walk(self._leaf, hiding.text, _nothing)

    # --- values ------------------------------------------------------------------------------

    def _leaf(self, value: Any, is_hidden: bool) -> Any:  # noqa: FBT001 - a callback
        if type(value) is str:
            if is_hidden:
                return self._tokens.of_text(value)
            is_id = _MADE_ID.fullmatch(value)
            return self._hiding.name(value) if is_id else self._hiding.text(value)
        return self._tokens.of(value) if is_hidden and value is not None else value

    def _json(self, text: str | None, patterns: Sequence[Pattern] = (), root: str = "") -> Any:
        if text is None or not (patterns or self._hiding.occurs_in(text)):
            return text
        return dumped(self._walk.value(orjson.loads(text), patterns, is_exact=root not in _LOOSE))

    def _rooted(self, text: str | None, root: str) -> Any:
        return self._json(text, self._patterns[root], root)

    def _text(self, text: str | None) -> Any:
        return None if text is None else self._hiding.text(text)

    def _name(self, text: str | None) -> Any:
        return None if text is None else self._hiding.name(text)

    # --- rows --------------------------------------------------------------------------------

    def redacted(self, archive: Archive) -> Archive:
        """Return the run without what is to be hidden."""
        events = [self._event(event) for event in archive.events]
        result = replace(
            archive,
            run=self._run(archive.run),
            events=events,
            transitions=self._transitions(archive.transitions),
            snapshots=[
                row._replace(state=self._rooted(row.state, "state")) for row in archive.snapshots
            ],
            steps=sorted(map(self._step, archive.steps), key=lambda row: row[1:5]),
            drops=[
                row._replace(
                    event_id=self._name(row.event_id),
                    name=self._name(row.name),
                    handler=self._name(row.handler),
                    detail=self._text(row.detail),
                )
                for row in archive.drops
            ],
            timers=list(map(self._timer, archive.timers)),
            tasks=sorted(map(self._task, archive.tasks), key=lambda row: row.id),
            parked=sorted(map(self._parked, archive.parked), key=lambda row: row[1:3]),
            collected=sorted(map(self._collected, archive.collected), key=lambda row: row[1:3]),
            streams=sorted(
                (
                    row._replace(id=self._name(row.id), error=self._text(row.error))
                    for row in archive.streams
                ),
                key=lambda row: row.id,
            ),
            chunks=self._chunks(archive.chunks),
        )
        _chain(result)
        return result

    def _run(self, run: RunRow) -> RunRow:
        lineage = self._json(run.lineage)
        edits = _edits(lineage)
        if edits:
            said: dict[str, Any] = orjson.loads(lineage)
            said["forked_from"]["edits"] = self._edits(edits)
            lineage = dumped(said)
        return replace(
            run,
            correlation_id=self._name(run.correlation_id),
            workflow=self._name(run.workflow),
            result=self._json(run.result),
            reason=self._text(run.reason),
            lineage=lineage,
        )

    def _edits(self, edits: dict[str, Any]) -> dict[str, Any]:
        kept = dict(edits)
        for key in kept.keys() & {"event", "state"}:
            patterns = self._patterns["state"]
            if key == "event":
                patterns = [
                    Pattern(each.text, (root, *each.steps))
                    for root in ("data", "metadata")
                    for each in self._patterns[root]
                ]
            kept[key] = self._walk.value(kept[key], patterns, is_exact=key == "event")
        return kept

    def _event(self, event: StoredEvent) -> StoredEvent:
        return event._replace(
            id=self._name(event.id),
            name=self._name(event.name),
            data=self._rooted(event.data, "data"),
            metadata=self._rooted(event.metadata, "metadata"),
            error=self._text(event.error),
            causation_id=self._name(event.causation_id),
        )

    def _transitions(self, rows: Sequence[TransitionRow]) -> list[TransitionRow]:
        means = redacted_state.Means(
            self._walk, self._patterns["state"], self._hiding, self._tokens
        )
        changes = redacted_state.redacted(rows, means)
        return [
            row._replace(
                handler=self._name(row.handler),
                change=change,
                error=self._text(row.error),
                traceback=self._text(row.traceback),
                arranged=self._arranged(row.arranged),
            )
            for row, change in zip(rows, changes, strict=True)
        ]

    def _arranged(self, text: str | None) -> str | None:
        said = _arranged(text)
        if not said:
            return text
        rows = (
            ("tasks", TaskRow, self._task),
            ("timers", TimerRow, self._timer),
            ("parked", ParkedRow, self._parked),
            ("collected", CollectedRow, self._collected),
        )
        kept = {key: self._names(value) for key, value in said.items()}
        for key, kind, redact in rows:
            if key in said:
                kept[key] = [redact(kind(0, *cells))[1:] for cells in said[key]]
        return dumped(kept)

    def _names(self, value: Any) -> Any:
        """Return ids and names in lists and objects without what is hidden."""
        return Walk(
            lambda leaf, _: self._hiding.name(leaf) if type(leaf) is str else leaf,
            self._hiding.name,
            _nothing,
        ).value(value, (), is_exact=True)

    def _step(self, row: StepRow) -> StepRow:
        return row._replace(
            handler=self._name(row.handler),
            name=self._name(row.name),
            result=self._json(row.result, below(self._patterns["steps"], row.name)),
            error=self._json(row.error),
        )

    def _timer(self, row: Any) -> Any:
        return row._replace(
            key=self._name(row.key),
            workflow=self._name(row.workflow),
            event_id=self._name(row.event_id),
            name=self._name(row.name),
            data=self._rooted(row.data, "data"),
            metadata=self._rooted(row.metadata, "metadata"),
            error=self._text(row.error),
            causation_id=self._name(row.causation_id),
            task_id=self._name(row.task_id),
        )

    def _task(self, row: Any) -> Any:
        return row._replace(
            id=self._name(row.id),
            name=self._name(row.name),
            arguments=self._json(row.arguments),
            error=self._text(row.error),
            causation_id=self._name(row.causation_id),
        )

    def _parked(self, row: Any) -> Any:
        return row._replace(
            handler=self._name(row.handler),
            name=self._name(row.name),
            condition=self._json(row.condition),
        )

    def _collected(self, row: Any) -> Any:
        return row._replace(key=self._name(row.key), event_id=self._name(row.event_id))

    # --- streams -----------------------------------------------------------------------------

    def _chunks(self, rows: Sequence[ChunkRow]) -> list[ChunkRow]:
        """Redact chunks one by one, and texts that follow on one another as one text."""
        streams: dict[str, list[Any]] = {}
        for row in rows:
            streams.setdefault(row.stream_id, []).extend(orjson.loads(row.data))
        hidden = {name: iter(self._joined(chunks)) for name, chunks in streams.items()}
        results = [
            row._replace(
                stream_id=self._name(row.stream_id),
                data=dumped([next(hidden[row.stream_id]) for _ in orjson.loads(row.data)]),
            )
            for row in rows
        ]
        return sorted(results, key=lambda row: (row.stream_id, row.first))

    def _joined(self, chunks: list[Any]) -> list[Any]:
        results: list[Any] = []
        texts: list[str] = []
        for chunk in chunks:
            if type(chunk) is str:
                texts.append(chunk)
                continue
            results += [*self._hiding.pieces(texts), self._walk.value(chunk, (), is_exact=True)]
            texts = []
        return results + self._hiding.pieces(texts)


def _nothing(_: str) -> None:
    pass


def _arranged(text: str | None) -> dict[str, Any]:
    return {} if text is None else dict(orjson.loads(text))


def _edits(lineage: str | None) -> dict[str, Any]:
    """Return how a fork's event and state were edited, as its lineage says."""
    said = {} if lineage is None else an_object(orjson.loads(lineage))
    return an_object(an_object(said.get("forked_from", {})).get("edits", {}))


def _chain(archive: Archive) -> None:
    """Make the hashes anew, of those events that had one."""
    before: bytes | None = None
    hashes: list[bytes | None] = []
    for event, old in zip(archive.events, archive.hashes, strict=True):
        if old is not None:
            before = chain.link(before or chain.begin(archive.run.correlation_id), event[1:])
        hashes.append(before)
    archive.hashes = hashes
    archive.run = replace(archive.run, chain=before)
