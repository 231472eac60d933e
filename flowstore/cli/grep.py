"""The command ``grep``: search events and errors of all runs."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from flowstore.cli import output, terminal
from flowstore.cli.raised import event_type, type_of, with_type
from flowstore.cli.reading import find_run, read
from flowstore.store.search import search_stretch, variants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from flowstore.store.queries import Queries
    from flowstore.store.search import Candidate, Search

_AROUND = 40
"""How many characters are shown on either side of what was found."""

_LONGEST = 500
"""Characters of a pattern up to which the database is asked for it."""

_HIT = "bold red"


class Pattern(NamedTuple):
    """What is searched for, as typed."""

    text: str
    is_regex: bool
    ignores_case: bool


class _Match(NamedTuple):
    """A place at which the pattern was found; ``text`` has what is around it, in three parts."""

    field: str
    text: tuple[str, str, str]
    handler: str | None = None
    attempt: int | None = None
    error_type: str | None = None


def grep(store: str, pattern: Pattern, search: Search, *, limit: int, as_json: bool) -> int:
    """Print the youngest events that match; 1 if none does."""
    is_known = not pattern.is_regex and 0 < len(pattern.text) <= _LONGEST
    if is_known and (pattern.text.isascii() or not pattern.ignores_case):
        search = replace(search, text=pattern.text)
    matcher = _Matcher(pattern)

    async def work(queries: Queries) -> int:
        if search.run is not None:
            await find_run(queries, search.run, store)
        printer = _JsonPrinter() if as_json else _TextPrinter()
        count = 0
        async for candidate in _candidates(queries, search):
            matches = list(matcher.search(candidate, errors=search.errors))
            if not matches:
                continue
            if count == limit:
                printer.end()
                output.note(f"the youngest {limit} events; more with --limit")
                return 0
            printer.print(candidate, matches)
            count += 1
        printer.end()
        if not count and not as_json:
            output.note("nothing found")
        return int(not count)

    return read(store, work)


async def _candidates(queries: Queries, search: Search) -> AsyncIterator[Candidate]:
    end: int | None = None
    while True:
        stretch = await queries.read_together(partial(search_stretch, search, end))
        for candidate in stretch.candidates:
            yield candidate
        end = stretch.end
        if end is None:
            return


class _Matcher:
    """Finds the pattern in the texts of an event and of its failures."""

    def __init__(self, pattern: Pattern) -> None:
        flags = re.IGNORECASE if pattern.ignores_case else re.NOFLAG
        if pattern.is_regex:
            try:
                self._plain = self._json = re.compile(pattern.text, flags)
            except (re.error, RecursionError, OverflowError) as error:
                message = f"{pattern.text!r} is no regular expression: {error}"
                raise typer.BadParameter(message, param_hint="PATTERN") from error
        else:
            self._plain = re.compile(re.escape(pattern.text), flags)
            self._json = re.compile("|".join(map(re.escape, variants(pattern.text))), flags)

    def search(self, candidate: Candidate, *, errors: bool) -> Iterator[_Match]:
        event = candidate.event
        if not errors:
            for field in ("name", "id"):
                yield from self._in(self._plain, field, getattr(event, field))
            for field in ("data", "metadata"):
                yield from self._in(self._json, field, getattr(event, field))
        for match in self._in(self._plain, "error", event.error):
            yield match._replace(error_type=event_type(event))
        for failure in candidate.failures:
            found = [
                *self._in(self._plain, "error", failure.error),
                *self._in(self._plain, "traceback", failure.traceback),
            ]
            # A traceback ends with the error: once is enough.
            for match in found[:1]:
                kind = type_of(failure) if match.field == "error" else None
                yield match._replace(
                    handler=failure.handler, attempt=failure.attempt, error_type=kind
                )

    def _in(self, pattern: re.Pattern[str], field: str, text: str | None) -> Iterator[_Match]:
        found = None if text is None else pattern.search(text)
        if text is None or found is None:
            return
        start, end = found.span()
        before, after = text[max(0, start - _AROUND) : start], text[end : end + _AROUND]
        before = "…" + before if start > _AROUND else before
        after = after + "…" if end + _AROUND < len(text) else after
        yield _Match(field, (before, text[start:end], after))


class _TextPrinter:
    def print(self, candidate: Candidate, matches: list[_Match]) -> None:
        event = candidate.event
        for match in matches:
            where = match.field
            if match.handler is not None:
                where += f" of {match.handler} at attempt {match.attempt}"
            before, hit, after = map(output.printable, match.text)
            lead = with_type(match.error_type, before).removesuffix(before)
            output.print_line([
                (output.printable(candidate.correlation_id), terminal.STRONG),
                (f"  {event.position} {output.printable(event.name)}", terminal.PLAIN),
                (f"  {output.printable(where)}: ", terminal.QUIET),
                (output.printable(lead) + before, terminal.PLAIN),
                (hit, _HIT),
                (after, terminal.PLAIN),
            ])  # fmt: skip

    def end(self) -> None:
        """There is nothing to end."""


class _JsonPrinter:
    def __init__(self) -> None:
        self._array = output.JsonArray()

    def print(self, candidate: Candidate, matches: list[_Match]) -> None:
        event = candidate.event
        value: dict[str, Any] = {
            "correlation_id": candidate.correlation_id,
            "position": event.position,
            "id": event.id,
            "name": event.name,
            "created_at": output.time_text(event.created_at),
            "matches": [{**match._asdict(), "text": "".join(match.text)} for match in matches],
        }
        self._array.add(value)

    def end(self) -> None:
        self._array.end()
