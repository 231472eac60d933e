"""Putting a fork into a store, under a name that no run there has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.errors import ForkError, RunExistsError
from flowstore.store.base import Restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flowstore.codec import Codec
    from flowstore.store.archive import Archive
    from flowstore.store.base import Store


async def place(
    store: Store,
    codec: Codec,
    make: Callable[[str], Archive],
    *,
    source: str,
    at: int,
    name: str | None = None,
) -> Archive:
    """Make a fork and write it, in one transaction.

    Args:
        store: where it is put; it must be open.
        codec: knows how long a name may be.
        make: makes the fork of this name.
        source: the name of the run that is forked.
        at: where it is forked.
        name: the fork's; None for ``<source>~<at>``, or with a number behind it if that is taken.

    Raises:
        RunExistsError: there is a run of this name.
        InvalidValueError: it is no proper name.
        ForkError: it has none, and the one that is made up is too long.
    """
    if name is not None:
        codec.check_text(name, "correlation_id", codec.limits.id_length)
        try:
            return await _restore(store, make(name))
        except RunExistsError:
            message = f"there is a run {name!r} already; give the fork another name, or none"
            raise RunExistsError(message) from None
    for each in _names(source, at):
        if len(each) > codec.limits.id_length:
            message = f"{each!r} is too long for a correlation_id; give the fork a name of its own"
            raise ForkError(message)
        if await store.reader.get_run(each) is None:
            try:
                return await _restore(store, make(each))
            except RunExistsError:  # someone else has forked it meanwhile
                continue
    raise AssertionError  # there is always another number


async def _restore(store: Store, made: Archive) -> Archive:
    await store.perform(Restore([made]))
    return made


def _names(source: str, at: int) -> Iterator[str]:
    yield f"{source}~{at}"
    number = 2
    while True:
        yield f"{source}~{at}.{number}"
        number += 1
