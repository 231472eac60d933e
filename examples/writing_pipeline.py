"""Answer a writers' inbox: read mails, draft articles, publish what a person has approved.

    python examples/writing_pipeline.py examples/writing/inbox     # draft what is new
    python examples/writing_pipeline.py status                     # what has become of it
    python examples/writing_pipeline.py approve lighthouse-1@harbour.example --by alex
    python examples/writing_pipeline.py examples/writing/inbox     # publishes what is approved

Each message is a run, known by its Message-ID. Kill the program wherever you like and run it
again: nothing is lost and nothing that was done is done again. With ``--serve`` it stays and
goes on with what other processes send. Runs are kept where FLOWSTORE_URL says, else in
``./flowstore.db``; drafts, published articles and mails to the editor are files in ``--output``.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import sys
from datetime import timedelta
from itertools import count
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
from writing.texts import draft_text, file_name
from writing.tools import CalendarDownError, Desk, Library

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import (
    EventConflictError,
    FlowstoreError,
    InvalidValueError,
    WaitExpiredError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WORKFLOW = "writing"
WEEK = 7 * 24 * 60 * 60.0


class UsageError(Exception):
    """What was asked for cannot be done."""


# --- the pipeline -------------------------------------------------------------------------


class Pipeline:
    """The handlers, and the outside world that they work with.

    Args:
        patience: how long an approval may take until the editor is reminded.
    """

    def __init__(self, desk: Desk, library: Library, patience: timedelta) -> None:
        self._desk = desk
        self._library = library
        self._patience = patience

    def build(self) -> WorkflowManager:
        """Make the workflow: who gets which event."""
        again = Retry(attempts=6, delay=0.02, on=CalendarDownError)
        return (
            WorkflowManager(name=WORKFLOW, state=State)
            .register(PipelineEvent, log_everything)
            .register(InquiryReceived, self.extract, correlate="message_id")
            .register(ExtractionFailed, explain_failure)
            .register(DetailsExtracted, self.check_calendar, retry=again)
            .register(AvailabilityChecked, self.search)
            .register(ArticlesFound, self.draft)
            .register(Approved, check_approval)
            .register(DraftReady, self.publish, retry=Retry(attempts=6, delay=1.0, on=OSError))
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

    async def publish(self, ready: DraftReady, ctx: Context) -> AsyncIterator[Published]:
        """Wait until somebody approves the draft, for weeks if need be; publish it once."""
        ctx.state.stage = DRAFT_READY
        for mails in count(1):
            await ctx.step("mail editor", self._desk.mail_editor, ready.draft, mails)
            try:
                approved = await ctx.wait_for(Approved, timeout=self._patience)
                break
            except WaitExpiredError:
                tell(f"{ctx.correlation_id}: reminding the editor")
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


async def check_approval(approved: Approved, ctx: Context) -> None:
    """Say so where nothing waits for an approval: it came too early, or too late."""
    if ctx.state.stage != DRAFT_READY:
        ctx.drop(f"{approved.by} approved, but there is no draft to approve: {ctx.state.stage}")


async def finish(published: Published, ctx: Context) -> None:
    """Close the run."""
    ctx.complete(published.model_dump())


async def on_error(event: WorkflowEvent, ctx: Context) -> AsyncIterator[PersonNeeded]:
    """Send what failed for good to a person; if even that fails, leave the dead letter."""
    kind = event.data["event"]
    if kind == Approved.__name__:
        return  # nobody could read it; the draft waits for another
    ctx.state.stage, ctx.state.reason = NEEDS_PERSON, event.error
    if kind != PersonNeeded.__name__:
        yield PersonNeeded(reason=f"{event.data['handler']}: {event.error}")


def pipeline() -> WorkflowManager:
    """Make the workflow as the program does: for ``flowstore replay --app``."""
    return Pipeline(Desk(Path("desk"), 0.0, 0.1), Library(), timedelta(seconds=WEEK)).build()


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
    """Send approvals; whoever runs the pipeline publishes."""
    for name in options.ids:
        state = await find(workflow, name)
        if state.stage != DRAFT_READY:
            raise UsageError(f"{name} has no draft to approve: {state.stage}")
        # With an id of its own an approval counts once, however often it is sent.
        await send(workflow, name, Approved(by=options.by), f"approved by {options.by}")


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


async def send(
    workflow: WorkflowManager, name: str, event: PipelineEvent, event_id: str | None = None
) -> None:
    """Send an event to a run and say what became of it."""
    receipt = await workflow.run(name).send(event, id=event_id)
    print(f"{name}: {type(event).__name__} {receipt.status}; it goes on when the pipeline runs")


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
    parser.add_argument("--output", type=Path, default=Path("desk"), help="default: ./desk")
    parser.add_argument("--json", action="store_true", help="print the runs as JSON")
    parser.set_defaults(command=COMMANDS.get(command or "", run))
    parser.set_defaults(thinking=0.0, calendar_fails=0.0, remind_after=WEEK)
    if command is None:
        add = parser.add_argument
        add("folder", help="with .eml files; or: approve, details, status")
        add("--serve", action="store_true", help="stay until Ctrl-C")
        add("--thinking", type=float, help="seconds that the model takes at most (default: 0)")
        add("--calendar-fails", type=float, default=0.1, help="how often, 0 to 1 (default: 0.1)")
        add("--remind-after", type=float, help="seconds (default: a week)")
        return parser.parse_args(words)
    if command == "approve":
        parser.add_argument("ids", type=mail.bare, nargs="+", metavar="ID", help="Message-IDs")
        parser.add_argument("--by", default=getpass.getuser(), help="who approves")
    if command == "details":
        parser.add_argument("id", type=mail.bare, help="the Message-ID")
        parser.add_argument("json_text", metavar="JSON", help='{"topic":, "words":, "due":}')
    return parser.parse_args(words[1:])


async def perform(options: argparse.Namespace) -> None:
    """Open everything, do what was asked for, close everything."""
    with Library() as library:
        desk = Desk(options.output, options.thinking, options.calendar_fails)
        patience = timedelta(seconds=options.remind_after)
        workflow = Pipeline(desk, library, patience).build()
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
