"""Tokens: what lets an outside system end one external task, and nothing else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final, NamedTuple, cast

import orjson

from flowstore.errors import InvalidTokenError

_LONGEST: Final = 16_384
_PARTS: Final = 3
_PURPOSE: Final = b"flowstore/external-task\0"


class Claimed(NamedTuple):
    """The external task that a token stands for.

    Attributes:
        correlation_id: its run.
        task_id: its id in the run.
        name: what it is called; a token can be used before the store has the task.
    """

    correlation_id: str
    task_id: str
    name: str


def make(secret: bytes, task: Claimed) -> str:
    """Return the token of a task; the same each time.

    Args:
        secret: what the store signs with.
        task: what the token is for.
    """
    body = _encode(orjson.dumps(list(task)))
    return f"{body}.{_signature(secret, body)}"


def read(secret: bytes, token: object) -> Claimed:
    """Return the task of a token that was signed with this secret.

    Raises:
        InvalidTokenError: it was not.
    """
    if secret and isinstance(token, str) and len(token) <= _LONGEST and token.isascii():
        body, _, signature = token.partition(".")
        if hmac.compare_digest(signature, _signature(secret, body)):
            return peek(token)
    raise _refused()


def peek(token: object) -> Claimed:
    """Return what a token says, whoever has made it: good for finding its run, no more.

    Raises:
        InvalidTokenError: it does not look like a token.
    """
    try:
        body = cast("str", token)[:_LONGEST].partition(".")[0].encode("ascii")
        found: object = orjson.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    except (TypeError, AttributeError, UnicodeEncodeError, binascii.Error, orjson.JSONDecodeError):
        raise _refused() from None
    parts = cast("list[object]", found) if isinstance(found, list) else []
    if len(parts) != _PARTS or not all(isinstance(part, str) for part in parts):
        raise _refused()
    return Claimed(*cast("list[str]", parts))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _signature(secret: bytes, body: str) -> str:
    return _encode(hmac.digest(secret, _PURPOSE + body.encode("ascii"), hashlib.sha256))


def _refused() -> InvalidTokenError:
    return InvalidTokenError(
        "the token is not one that this store has given out; pass it on whole and unchanged, "
        "and complete it where its run is"
    )
