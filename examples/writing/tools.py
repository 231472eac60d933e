"""The outside world of the pipeline, offline: a model, a calendar, past articles, files.

Each call that really takes place leaves a line in ``calls.jsonl``, so that anyone can count.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sqlite3
import weakref
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Self

ARTICLES = Path(__file__).parent / "articles"
MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
LONGEST_ANSWER = 240
"""Characters after which the model stops, in the middle of a word if need be."""
SATURDAY = 5
BOOKED = {date(2026, 12, 4), date(2026, 12, 11), date(2026, 12, 14)}


class CalendarDownError(Exception):
    """The calendar does not answer; ask again later."""


class Desk:
    """Everything that is outside the run.

    Args:
        folder: where drafts, published articles and mails to the editor go.
        thinking: how long the model takes at most, in seconds.
        calendar_fails: the part of the calendar's calls that fail, 0 to 1.
    """

    def __init__(self, folder: Path, thinking: float, calendar_fails: float) -> None:
        self._folder = folder
        self._thinking = thinking
        self._calendar_fails = calendar_fails

    async def ask_model(self, text: str, *, idempotency_key: str) -> str:
        """Answer like a language model: usually JSON with what the mail asks for."""
        await asyncio.sleep(self._thinking * _part(idempotency_key))
        words = re.search(r"(\d[\d.,]*) (?:words|Wörter)", text)
        topic = re.search(r"\b(?:about|über)\s+(.+?)(?=[,.?!]|\s+by\s|$)", text, re.DOTALL)
        answer = {
            "topic": " ".join(topic[1].split()) if topic else "",
            "words": int(re.sub(r"\D", "", words[1])) if words else 500,
            "due": _day(text),
        }
        self._called("model", idempotency_key)
        return json.dumps(answer, ensure_ascii=False)[:LONGEST_ANSWER]

    def first_free_day(self, day: date, attempt: int, *, idempotency_key: str) -> date:
        """Return the first working day from this on that is not booked."""
        # Which calls fail follows from key and attempt, so that every execution shows the same.
        fails = _part(f"2/{idempotency_key}#{attempt}") < self._calendar_fails
        self._called("calendar", idempotency_key, attempt=attempt, fails=fails)
        if fails:
            raise CalendarDownError("the calendar does not answer")
        while day in BOOKED or day.weekday() >= SATURDAY:
            day += timedelta(days=1)
        return day

    def mail_editor(self, draft: str, number: int, *, idempotency_key: str) -> str:
        """Ask the editor for an approval, or remind them."""
        place = f"outbox/{Path(draft).stem}.{number}.txt"
        text = f"Please read {draft} and approve it.\n"
        if number > 1:
            text = f"Reminder {number - 1}: {text}"
        return self.write(place, text, idempotency_key=idempotency_key)

    def write(self, place: str, text: str, *, idempotency_key: str) -> str:
        """Write a file as a whole or not at all; return where it is."""
        path = self._folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        # Done again with the same key it is the same file, so that nothing is there twice.
        new = path.with_name(f"{path.name}.new")
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        self._called(path.parent.name, idempotency_key)
        return place

    def _called(self, tool: str, key: str, **more: object) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"tool": tool, "key": key, **more}) + "\n"
        with (self._folder / "calls.jsonl").open("ab", buffering=0) as calls:
            calls.write(line.encode())  # at once: SIGKILL leaves no half line


def _part(text: str) -> float:
    """Return a number from 0 to 1 that is the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32


def _day(text: str) -> str:
    if found := re.search(r"\d{4}-\d\d-\d\d", text):
        return found[0]
    if found := re.search(rf"(\d{{1,2}}) ({'|'.join(MONTHS)}) (\d{{4}})", text):
        return f"{found[3]}-{MONTHS.index(found[2]) + 1:02}-{int(found[1]):02}"
    return "as soon as possible"


class Library:
    """Past articles, searched with SQLite's FTS5; the index is in memory."""

    def __init__(self, folder: Path = ARTICLES) -> None:
        # Any thread may collect what nobody has closed, as when the pipeline is only looked at.
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._close = weakref.finalize(self, self._index.close)
        self._index.execute(
            "CREATE VIRTUAL TABLE article USING fts5(title, text,"
            " tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        for path in sorted(folder.glob("*.md")):
            title, _, text = path.read_text(encoding="utf-8").partition("\n")
            self._index.execute("INSERT INTO article VALUES (?, ?)", (title.strip("# "), text))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    async def search(self, topic: str) -> list[str]:
        """Return the titles of the two articles that have most to do with a topic."""
        words = re.findall(r"\w{4,}", topic)
        if not words:
            return []
        # In quotes a word is a word, also NEAR and NOT.
        question = " OR ".join(f'"{word}"' for word in words)
        select = "SELECT title FROM article WHERE article MATCH ? ORDER BY rank, title LIMIT 2"
        with closing(self._index.execute(select, (question,))) as rows:
            return [title for (title,) in rows]
