"""Read a message as mail programs save it, whatever its encodings."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.utils import parseaddr
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from email.message import EmailMessage, MIMEPart
    from pathlib import Path

LONGEST_ID = 200
"""Longer Message-IDs are known by their hash; a run's id has a limit."""

MOST_SHOWN = 1_000
"""Characters of a text attachment that are kept."""


class MailError(Exception):
    """A file is not a message that one could answer."""


class Attachment(BaseModel):
    """What a draft says of an attachment; its bytes stay in the mail."""

    name: str
    kind: str
    size: int
    text: str  # the beginning, if it is text


@dataclass(frozen=True)
class Mail:
    """A message, decoded.

    Attributes:
        message_id: without its angle brackets; made from the file's bytes if it has none.
    """

    message_id: str
    sender: str
    address: str
    subject: str
    sent_at: datetime | None
    in_reply_to: str | None
    text: str
    attachments: list[Attachment]


def read(path: Path) -> Mail:
    """Read a file; raise MailError if there is nobody or nothing to answer."""
    data = path.read_bytes()
    try:
        mail = _mail(message_from_bytes(data, policy=policy.default), data)
    except Exception as error:
        # On damaged messages the email package raises nearly anything.
        raise MailError(f"cannot be read: {error!r}") from error
    if "@" not in mail.address:
        raise MailError("it has no sender")
    if not mail.text:
        raise MailError("it has no text")
    return mail


def bare(message_id: str) -> str:
    """Return a Message-ID without white space and angle brackets, short enough for a run."""
    text = "".join(clean(message_id).split()).strip("<>")
    return text if len(text) <= LONGEST_ID else f"sha256-{_hash(text.encode())}@long-id"


def clean(text: str) -> str:
    """Take out what no store can keep: NUL and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _mail(message: EmailMessage, data: bytes) -> Mail:
    sender, address = parseaddr(_header(message, "From"))
    reply = _raw(message, "In-Reply-To")
    return Mail(
        # Without an id of its own, the same file is the same message when it is read again.
        message_id=bare(_raw(message, "Message-ID")) or f"sha256-{_hash(data)}@no-id",
        sender=sender or address,
        address=address,
        subject=_header(message, "Subject") or "(no subject)",
        sent_at=_sent_at(message),
        in_reply_to=bare(reply) if reply else None,
        text=_text(message),
        attachments=[_attachment(part) for part in message.iter_attachments()],
    )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _header(message: EmailMessage, name: str) -> str:
    return " ".join(clean(str(message.get(name, ""))).split())


def _raw(message: EmailMessage, name: str) -> str:
    # The email package cuts odd ids short and raises on others; as they came they still tell
    # one message from another.
    values = (value for key, value in message.raw_items() if key.lower() == name.lower())
    return str(next(values, ""))


def _sent_at(message: EmailMessage) -> datetime | None:
    moment: datetime | None = getattr(message.get("Date"), "datetime", None)
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text(message: EmailMessage) -> str:
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return ""
    text = _content(part)
    if part.get_content_subtype() == "html":
        text = _Words.of(text)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if not line.startswith(">")).strip()


def _content(part: MIMEPart) -> str:
    try:
        return clean(part.get_content())
    except LookupError:  # a character set that nobody knows
        return clean(_payload(part).decode("utf-8", "replace"))


def _payload(part: MIMEPart) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _attachment(part: MIMEPart) -> Attachment:
    name = clean(part.get_filename() or "(no name)")
    text = _content(part)[:MOST_SHOWN] if part.get_content_maintype() == "text" else ""
    return Attachment(name=name, kind=part.get_content_type(), size=len(_payload(part)), text=text)


class _Words(HTMLParser):
    """Collects what a reader of a page would see."""

    unseen = ("style", "script", "head")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._hidden = 0

    @classmethod
    def of(cls, page: str) -> str:
        words = cls()
        words.feed(page)
        words.close()
        lines = "".join(words.found).splitlines()
        return "\n".join(re.sub(r"\s+", " ", line).strip() for line in lines if line.strip())

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Begin a line, or what is not shown."""
        del attrs
        self._hidden += tag in self.unseen
        if tag in {"p", "br", "div", "li", "tr"}:
            self.found.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """End what is not shown."""
        self._hidden -= tag in self.unseen

    def handle_data(self, data: str) -> None:
        """Keep what is shown; a line break in the source is a space."""
        if not self._hidden:
            self.found.append(re.sub(r"\s+", " ", data))
