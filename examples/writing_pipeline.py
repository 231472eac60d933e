"""Answer a writers' inbox: read mails, draft articles, publish what a person has approved.

    python examples/writing_pipeline.py examples/writing/inbox     # draft what is new
    python examples/writing_pipeline.py status                     # what has become of it
    python examples/writing_pipeline.py approve lighthouse-1@harbour.example --by alex
    python examples/writing_pipeline.py examples/writing/inbox     # publishes what is approved

Each message is a run, known by its Message-ID. Kill the program wherever you like and run it
again: nothing is lost and nothing that was done is done again. With ``--serve`` it stays and
goes on with what other processes send. Runs are kept where FLOWSTORE_URL says, else in
``./flowstore.db``; drafts, published articles and notes for people are files in ``--output``.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from writing import mail
from writing.events import (
    DRAFT_READY,
    IN_WORK,
    NEEDS_PERSON,
    PUBLISHED,
    Approved,
    ArticlesFound,
    AvailabilityChecked,
    DetailsExtracted,
    DraftReady,
    ExtractionFailed,
    InquiryReceived,
    PersonNeeded,
    PipelineEvent,
    Published,
    State,
)
from writing.tools import CalendarDownError, Desk, Library

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import EventConflictError, FlowstoreError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WORKFLOW = "writing"


class UsageError(Exception):
    """What was asked for cannot be done."""


# --- the pipeline -------------------------------------------------------------------------


class Pipeline:
    """The handlers, and the outside world that they work with."""

    def __init__(self, desk: Desk, library: Library) -> None:
        self._desk = desk
        self._library = library

    def build(self) -> WorkflowManager:
        """Make the workflow: who gets which event."""
        again = Retry(attempts=6, delay=0.05, on=CalendarDownError)
        return (
            WorkflowManager(name=WORKFLOW, state=State)
            .register(PipelineEvent, log_everything)
            .register(InquiryReceived, self.extract, correlate="message_id")
            .register(ExtractionFailed, explain_failure)
            .register(DetailsExtracted, self.check_calendar, retry=again)
            .register(AvailabilityChecked, self.search)
            .register(ArticlesFound, self.draft)
            .register(DraftReady, wait_for_approval)
            .register(Approved, self.publish)
            .register(Published, finish)
            .register(PersonNeeded, self.hand_over)
            .register("error", on_error)
        )

    async def extract(
        self, inquiry: InquiryReceived, ctx: Context
    ) -> AsyncIterator[DetailsExtracted | ExtractionFailed]:
        """Ask the model what is wanted, and believe nothing that does not parse."""
        ctx.state.inquiry = inquiry
        answer = await ctx.step("ask model", self._desk.ask_model, inquiry.text)
        try:
            yield DetailsExtracted.model_validate_json(answer)
        except ValidationError as error:
            wrong = error.errors()[0]
            place = ".".join(map(str, wrong["loc"])) or "JSON"
            yield ExtractionFailed(answer=answer, problem=f"{place}: {wrong['msg']}")

    async def check_calendar(
        self, details: DetailsExtracted, ctx: Context
    ) -> AsyncIterator[AvailabilityChecked]:
        """Find a day; the calendar fails now and then and is asked again."""
        if ctx.state.inquiry is None or ctx.state.draft is not None:
            ctx.drop("details are of use after an inquiry and before its draft")
            return
        look, attempt = self._desk.first_free_day, ctx.attempt
        ctx.state.day = await ctx.step("look for a day", look, details.due, attempt)
        ctx.state.details, ctx.state.stage, ctx.state.reason = details, IN_WORK, None
        yield AvailabilityChecked(day=ctx.state.day)

    async def search(self, _: AvailabilityChecked, ctx: Context) -> AsyncIterator[ArticlesFound]:
        """Look for what was written about it before; reading needs no step."""
        yield ArticlesFound(titles=await self._library.search(ctx.state.details.topic))

    async def draft(self, found: ArticlesFound, ctx: Context) -> AsyncIterator[DraftReady]:
        """Write the draft, once."""
        text = draft_text(ctx.state, found.titles)
        place = f"drafts/{file_name(ctx.correlation_id)}"
        ctx.state.draft = await ctx.step("write draft", self._desk.write, place, text)
        yield DraftReady(draft=ctx.state.draft)

    async def publish(self, approved: Approved, ctx: Context) -> AsyncIterator[Published]:
        """Publish what was approved, once, however often it is approved."""
        if ctx.state.draft is None or ctx.state.article is not None:
            ctx.drop(f"there is no draft to approve: {ctx.state.stage}")
            return
        text = draft_text(ctx.state, []) + f"\nApproved by {approved.by}.\n"
        place = f"published/{file_name(ctx.correlation_id)}"
        ctx.state.article = await ctx.step("publish", self._desk.write, place, text)
        ctx.state.stage, ctx.state.reason = PUBLISHED, None
        yield Published(article=ctx.state.article, by=approved.by)

    async def hand_over(self, needed: PersonNeeded, ctx: Context) -> None:
        """Leave a note for a person."""
        ctx.state.stage, ctx.state.reason = NEEDS_PERSON, needed.reason
        inquiry = ctx.state.inquiry
        mail_text = "" if inquiry is None else f"\n{inquiry.subject}\n\n{inquiry.text}\n"
        place = f"people/{file_name(ctx.correlation_id)}"
        note = f"{needed.reason}\n{mail_text}"
        await ctx.step("leave note", self._desk.write, place, note)


async def log_everything(event: PipelineEvent, ctx: Context) -> None:
    """Keep what happened, exactly once, and say so, at least once."""
    ctx.state.history.append(type(event).__name__)
    tell(f"{ctx.correlation_id}: {type(event).__name__}")


async def explain_failure(failed: ExtractionFailed, ctx: Context) -> AsyncIterator[PersonNeeded]:
    """Send what the model got wrong to a person."""
    del ctx
    yield PersonNeeded(reason=f"the model's answer cannot be used: {failed.problem}")


async def wait_for_approval(ready: DraftReady, ctx: Context) -> None:
    """Leave the run until somebody approves: hours or weeks, it costs nothing."""
    del ready
    ctx.state.stage = DRAFT_READY


async def finish(published: Published, ctx: Context) -> None:
    """Close the run."""
    ctx.complete(published.model_dump())


async def on_error(event: WorkflowEvent, ctx: Context) -> AsyncIterator[PersonNeeded]:
    """Send what failed for good to a person; if even that fails, leave the dead letter."""
    ctx.state.stage, ctx.state.reason = NEEDS_PERSON, event.error
    if event.data["event"] == PersonNeeded.__name__:
        return
    yield PersonNeeded(reason=f"{event.data['handler']}: {event.error}")


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


# --- commands -----------------------------------------------------------------------------


async def run(workflow: WorkflowManager, options: argparse.Namespace) -> None:
    """Read the folder, go on with everything until it has settled, and show what there is."""
    files = messages(Path(options.folder))
    async with workflow:  # what was interrupted goes on
        await read_inbox(workflow, files)
        for record in await workflow.runs(status="running"):
            await workflow.run(record.correlation_id).wait()
        if options.serve:
            tell("serving; Ctrl-C ends it")
            await asyncio.Event().wait()
        await status(workflow, options)


def messages(folder: Path) -> list[Path]:
    """Return the messages of a folder, always in the same order."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give one with .eml files")
    return sorted(folder.glob("*.eml"))


async def read_inbox(workflow: WorkflowManager, files: list[Path]) -> None:
    """Send each message to its run; what is known already counts once."""
    counts = {"accepted": 0, "duplicate": 0, "stale": 0}
    refused = 0
    for path in files:
        try:
            letter = mail.read(path)
            inquiry = InquiryReceived.model_validate(vars(letter))
            receipt = await workflow.send(inquiry, id=letter.message_id)
        except EventConflictError:
            problem = "its Message-ID is that of another message; that one was kept"
        except (mail.MailError, InvalidValueError, OSError) as error:
            problem = str(error)
        else:
            counts[receipt.status] += 1
            continue
        refused += 1
        tell(f"{path.name}: {problem}")
    known = counts["duplicate"] + counts["stale"]
    tell(f"{counts['accepted']} new, {known} known already, {refused} refused")


async def approve(workflow: WorkflowManager, options: argparse.Namespace) -> None:
    """Send the approval; whoever runs the pipeline publishes."""
    state = await find(workflow, options.id)
    if state.draft is None or state.article is not None:
        raise UsageError(f"{options.id} has no draft to approve: {state.stage}")
    await send(workflow, options.id, Approved(by=options.by))


async def details(workflow: WorkflowManager, options: argparse.Namespace) -> None:
    """Send what a person found out where the model did not."""
    state = await find(workflow, options.id)
    if state.stage != NEEDS_PERSON or state.draft is not None:
        raise UsageError(f"{options.id} needs no details: {state.stage}")
    await send(workflow, options.id, DetailsExtracted.model_validate_json(options.json_text))


async def find(workflow: WorkflowManager, name: str) -> State:
    """Return the state of a run."""
    state: State = await workflow.run(name).state()
    return state


async def send(workflow: WorkflowManager, name: str, event: PipelineEvent) -> None:
    """Send an event to a run and say what became of it."""
    receipt = await workflow.run(name).send(event)
    print(f"{type(event).__name__}: {receipt.status}; the pipeline goes on when it runs")


async def status(workflow: WorkflowManager, options: argparse.Namespace) -> None:
    """Show every run."""
    found = [(record, state) async for record, state in workflow.states()]
    rows = [row(record.correlation_id, state) for record, state in found]
    rows.sort(key=lambda each: str(each["id"]))
    if options.json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    width = max((len(each["id"]) for each in rows), default=0)
    for each in rows:
        print(f"{each['id']:{width}}  {each['stage']:14}  {each['reason'] or each['subject']}")
    stages = [each["stage"] for each in rows]
    totals = [f"{stage} {stages.count(stage)}" for stage in sorted(set(stages))]
    print(f"{len(rows)} inquiries: {', '.join(totals) or 'none'}")


def row(name: str, state: State) -> dict[str, Any]:
    """Return what is shown of a run."""
    shown = state.model_dump(mode="json", exclude={"inquiry"})
    inquiry = None if state.inquiry is None else state.inquiry.model_dump(mode="json")
    subject = inquiry["subject"] if inquiry else ""
    return {"id": name, "subject": subject, **shown, "inquiry": inquiry}


def tell(text: str) -> None:
    """Show progress where it does not mix with the summary."""
    print(text, file=sys.stderr, flush=True)


# --- the command line ---------------------------------------------------------------------

COMMANDS = {"approve": approve, "details": details, "status": status}


def read_options(words: list[str]) -> argparse.Namespace:
    """Read the command line: a command, or else a folder."""
    command = words[0] if words and words[0] in COMMANDS else None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(), help="folder (default: this one)")
    parser.add_argument("--json", action="store_true", help="print the runs as JSON")
    parser.set_defaults(command=COMMANDS.get(command or "", run))
    if command is None:
        parser.add_argument("folder", help="with .eml files; or: approve, details, status")
        parser.add_argument("--serve", action="store_true", help="stay until Ctrl-C")
        parser.add_argument("--calendar-fails", type=float, default=0.1, help="default 0.1")
        return parser.parse_args(words)
    parser.set_defaults(calendar_fails=0.0)
    if command != "status":
        parser.add_argument("id", type=mail.bare, help="the Message-ID")
    if command == "approve":
        parser.add_argument("--by", default=getpass.getuser(), help="who approves")
    if command == "details":
        parser.add_argument("json_text", metavar="JSON", help='{"topic":, "words":, "due":}')
    return parser.parse_args(words[1:])


async def perform(options: argparse.Namespace) -> None:
    """Open everything, do what was asked for, close everything."""
    with Library() as library:
        desk = Desk(options.output, options.calendar_fails)
        workflow = Pipeline(desk, library).build()
        try:
            await options.command(workflow, options)
        finally:
            await workflow.close()


def main() -> int:
    """Read the command line and do what it says."""
    options = read_options(sys.argv[1:])
    try:
        asyncio.run(perform(options))
    except KeyboardInterrupt:
        tell("interrupted; run it again to go on")
        return 130
    except ValidationError as error:
        wrong = error.errors()[0]
        tell(f"error: {'.'.join(map(str, wrong['loc'])) or 'JSON'}: {wrong['msg']}")
        return 1
    except (UsageError, FlowstoreError, OSError) as error:
        tell(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
