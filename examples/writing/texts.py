"""What the pipeline writes, and the names of the files."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from writing.events import State


def draft_text(state: State, titles: list[str]) -> str:
    """Write a draft from what is known."""
    inquiry, details = state.inquiry, state.details
    if inquiry is None or details is None:
        raise ValueError("there is nothing to write about")
    late = "" if state.day == details.due else f" ({details.due} was asked for)"
    lines = [
        f"# {details.topic}",
        "",
        f"For {inquiry.sender} <{inquiry.address}>: {inquiry.subject}",
        f"{details.words} words, ready on {state.day}{late}.",
        *(f"See also: {title}" for title in titles),
    ]
    for each in inquiry.attachments:
        lines.append(f"Attached: {each.name} ({each.kind}, {each.size} bytes)")
        lines += [f"    {line}" for line in each.text.splitlines()]
    if inquiry.in_reply_to:
        lines.append(f"In reply to {inquiry.in_reply_to}")
    return "\n".join(lines) + "\n"


def file_name(message_id: str) -> str:
    """Return a name for files about a message; senders choose ids such as ``../../x``."""
    if re.fullmatch(r"[a-z0-9_][a-z0-9._@+-]{0,100}", message_id):
        return f"{message_id}.md"
    plain = re.sub(r"[^\w@-]+", "_", message_id, flags=re.ASCII)[:60]
    return f"{plain}-{hashlib.sha256(message_id.encode()).hexdigest()[:8]}.md"
