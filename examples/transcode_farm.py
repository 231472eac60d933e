"""Transcode videos: a control plane that decides, and a data plane that works.

    python examples/transcode_farm.py [--videos 6] [--segments 4] [--store transcode.db]
    python examples/transcode_farm.py --dask      # on a local Dask cluster; or --dask tcp://…:8786

One run for each video. Its handler submits a job for each segment in each rendition; the jobs
burn a processor each, in a pool of processes or on Dask, and end in events in whatever order.
Thumbnails are made by somebody else, who is given a token and answers when it suits him: before
the handler is done, twice, or too late. Kill it and run it again: what had not finished is
submitted again, and nothing counts twice. At the end every video is compared with what a plain
loop makes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowstore import Context, Retry, WorkflowEvent, WorkflowManager
from flowstore.errors import InvalidTokenError, MissingExtraError

if TYPE_CHECKING:
    from concurrent.futures import Executor

RENDITIONS = ("1080p", "720p", "480p")
ROUNDS = 60
"""How often a segment is squeezed: what makes a job heavy."""

PATIENCE = 0.5
"""Seconds after which some customers do without a thumbnail."""


# --- the data plane: pure work, in whatever process ---------------------------------------------


@dataclass
class Encoded:
    """A segment in one rendition."""

    rendition: str
    segment: int
    size: int
    checksum: int


def transcode(video: str, rendition: str, segment: int) -> Encoded:
    """Encode a segment; the same every time, so that it may be done again."""
    picture = (
        hashlib.shake_128(f"{video}/{rendition}/{segment}".encode()).hexdigest(16_000).encode()
    )
    squeezed, checksum = b"", 0
    for number in range(ROUNDS):
        squeezed = zlib.compress(picture + bytes([number]), 9)
        checksum = zlib.crc32(squeezed, checksum)
    return Encoded(rendition, segment, len(squeezed), checksum)


def thumbnail(video: str) -> str:
    """Make what the outside service answers with."""
    return f"{zlib.crc32(video.encode()):08x}.png"


def is_impatient(video: str) -> bool:
    """Tell whether its customer waits for the thumbnail, or does without after a while."""
    return video.endswith("1")


class Thumbnails:
    """Somebody else's service: it keeps its orders in a folder and answers at least once.

    Args:
        folder: its own disk, which outlives any crash of ours.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workflow: WorkflowManager | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._given_up = asyncio.Event()
        self.verdicts: dict[str, int] = {}

    async def order(self, token: str, video: str) -> None:
        """Take an order; the impatient among us have an answer before they have hung up."""
        self._folder.mkdir(exist_ok=True)
        place = self._folder / f"{zlib.crc32(video.encode())}.json"
        place.with_suffix(".new").write_text(json.dumps([token, video]))
        place.with_suffix(".new").replace(place)
        if video.endswith("0"):
            await self._answer(token, video)
        self._begin(token, video)

    def open(self, workflow: WorkflowManager) -> None:
        """Go on with every order that there is: this service never knows who was told."""
        self._workflow = workflow
        for place in sorted(self._folder.glob("*.json")):
            self._begin(*json.loads(place.read_text()))

    def give_up(self) -> None:
        """Hear that someone does without: a reason to answer at last."""
        self._given_up.set()

    async def close(self) -> None:
        """Answer whoever has not been answered."""
        self._given_up.set()
        await asyncio.gather(*self._answering)

    def _begin(self, token: str, video: str) -> None:
        answering = asyncio.create_task(self._answer_twice(token, video))
        self._answering.add(answering)

    async def _answer_twice(self, token: str, video: str) -> None:
        if is_impatient(video):
            await self._given_up.wait()
        await self._answer(token, video)
        await self._answer(token, video)

    async def _answer(self, token: str, video: str) -> None:
        if self._workflow is None:
            return
        try:
            verdict = (await self._workflow.complete_task(token, thumbnail(video))).status
        except InvalidTokenError:  # an old order, of another store
            verdict = "refused"
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1


# --- the control plane ---------------------------------------------------------------------------


class Display:
    """How far it is, as one line that is written over on a terminal."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._shown = -1
        self.done = 0
        self.open: set[str] = set()
        self.finished = asyncio.Event()

    def show(self, *, segments: int = 0) -> None:
        """Count segments, and show what has changed."""
        self.done += segments
        tenth = 10 * self.done // self._jobs
        bar = "#" * (2 * tenth)
        try:
            if sys.stdout.isatty():
                print(f"\r[{bar:<20}] {self.done}/{self._jobs} segments", end="", flush=True)
            elif tenth != self._shown:
                print(f"{self.done}/{self._jobs} segments", flush=True)
        except BrokenPipeError:  # no one looks any more, which is no failure of a video's
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self._shown = tenth

    def close(self, video: str) -> None:
        """Take note that a video is done."""
        self.open.discard(video)
        if not self.open:
            self.finished.set()


def build(
    store: str | None,
    segments: int,
    executor: str | Executor,
    thumbnails: Thumbnails,
    display: Display,
) -> WorkflowManager:
    """Make the workflow: handlers that return at once, and keep each video's state."""
    workflow = WorkflowManager(store, name="transcode-farm")
    encode = workflow.task(executor=executor, retry=Retry(attempts=3, delay=0.1))(transcode)
    picture = workflow.external_task("thumbnail")

    @workflow.on("requested")
    async def start(event: WorkflowEvent, ctx: Context) -> None:
        video = event.data["video"]
        ctx.state.update(video=video, jobs=len(RENDITIONS) * segments, encoded={})
        for rendition in RENDITIONS:
            for segment in range(segments):
                ctx.submit(encode, video, rendition, segment)
        patience = PATIENCE if is_impatient(video) else None
        token = ctx.submit_external(picture.name, timeout=patience)
        await ctx.step("order thumbnail", thumbnails.order, token, video)

    @workflow.on(encode.completed)
    async def keep(event: WorkflowEvent, ctx: Context) -> None:
        made = encode.result(event)
        ctx.state["encoded"][f"{made.rendition}/{made.segment}"] = [made.size, made.checksum]
        display.show(segments=1)
        close_if_done(ctx)

    @workflow.on("error")
    @workflow.on(encode.failed)
    async def give_up(event: WorkflowEvent, ctx: Context) -> None:
        ctx.complete({"failed": event.error})
        display.close(ctx.correlation_id)

    @workflow.on(picture.completed)
    async def hang(event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["thumbnail"] = event.data["result"]
        close_if_done(ctx)

    @workflow.on(picture.failed)
    async def do_without(event: WorkflowEvent, ctx: Context) -> None:
        ctx.state["thumbnail"] = None
        ctx.logger.info("no thumbnail for %s: %s", ctx.state["video"], event.error)
        close_if_done(ctx)
        thumbnails.give_up()

    def close_if_done(ctx: Context) -> None:
        state = ctx.state
        if len(state["encoded"]) == state["jobs"] and "thumbnail" in state:
            sizes = [size for size, _ in state["encoded"].values()]
            ctx.complete({"bytes": sum(sizes), "thumbnail": state["thumbnail"]})
            display.close(state["video"])

    return workflow


def plain(video: str, segments: int) -> dict[str, Any]:
    """Do the same in a loop, with no workflow at all."""
    made = [
        transcode(video, rendition, each) for rendition in RENDITIONS for each in range(segments)
    ]
    picture = None if is_impatient(video) else thumbnail(video)
    return {"bytes": sum(one.size for one in made), "thumbnail": picture}


async def run(options: argparse.Namespace, executor: str | Executor) -> int:
    """Send the requests, serve until every video is done, and compare."""
    videos = [f"video-{number}" for number in range(options.videos)]
    display = Display(len(videos) * len(RENDITIONS) * options.segments)
    display.open.update(videos)
    thumbnails = Thumbnails(Path(options.orders))
    workflow = build(options.store, options.segments, executor, thumbnails, display)
    async for record, state in workflow.states():
        if record.correlation_id in display.open:
            display.done += len(state.get("encoded", ()))
            if record.status in ("completed", "failed", "cancelled"):
                display.close(record.correlation_id)
    display.show()
    async with workflow:
        thumbnails.open(workflow)
        for video in videos:
            request = WorkflowEvent("requested", {"video": video})
            await workflow.send(request, correlation_id=video, id=f"request/{video}")
        await display.finished.wait()
        await thumbnails.close()
    return await report(workflow, videos, thumbnails, options.segments)


async def report(
    workflow: WorkflowManager, videos: list[str], thumbnails: Thumbnails, segments: int
) -> int:
    """Print what came of it; the exit code says whether a plain loop agrees."""
    wrong: list[str] = []
    total = 0
    for video in videos:
        result = json.loads((await workflow.run(video).info()).result or "null")
        total += result.get("bytes", 0)
        if result != plain(video, segments):
            wrong.append(video)
    await workflow.close()
    if sys.stdout.isatty():
        print()
    answers = ", ".join(
        f"{count} {status}" for status, count in sorted(thumbnails.verdicts.items())
    )
    print(f"{len(videos)} videos, {total} bytes; answers about thumbnails: {answers or 'none'}")
    print(
        f"not as a plain loop has them: {', '.join(wrong)}" if wrong else "as a plain loop has them"
    )
    return 1 if wrong else 0


def main() -> int:
    """Read the options, and choose where the jobs run."""
    parser = argparse.ArgumentParser(description="Transcode videos beside an event loop.")
    parser.add_argument("--store", help="the database (default FLOWSTORE_URL, ./flowstore.db)")
    parser.add_argument("--videos", type=int, default=6, help="how many (default 6)")
    parser.add_argument("--segments", type=int, default=4, help="of each video (default 4)")
    parser.add_argument("--orders", default="orders", help="the thumbnail service's own folder")
    parser.add_argument(
        "--dask",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="on Dask, or a local cluster",
    )
    options = parser.parse_args()
    if options.videos < 1 or options.segments < 1:
        parser.error("--videos and --segments: at least 1")
    if options.dask is None:
        return asyncio.run(run(options, "processes"))
    try:
        from distributed import Client  # noqa: PLC0415 - only who asks for Dask needs it
    except ImportError as error:
        raise MissingExtraError(
            "--dask needs Dask: pip install 'flowstore-engine[dask]'"
        ) from error
    cluster = {"n_workers": os.cpu_count(), "dashboard_address": None}
    with Client(options.dask) if options.dask else Client(**cluster) as client:
        return asyncio.run(run(options, client.get_executor()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again to go on")
    except MissingExtraError as error:
        sys.exit(str(error))
