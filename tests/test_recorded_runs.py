"""Recorded runs as test cases: what someone else's test suite makes of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import checked
import pytest

from flowstore import WorkflowEvent, WorkflowManager
from flowstore.errors import AcceptedFileError
from flowstore.replay import read_file, write_file
from flowstore.replay.accepted_file import read_accepted
from flowstore.store.readonly import open_queries
from flowstore.store.url import parse
from flowstore.testing import RecordedRun, assert_replays, recorded_runs

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

SUITE = """
    import os
    import checked
    import pytest
    from flowstore.testing import assert_replays, recorded_runs

    @pytest.mark.parametrize("run", recorded_runs("runs/*.jsonl"))
    async def test_orders(run):
        await assert_replays(getattr(checked, os.environ.get("CODE", "same"))(), run)
"""


@pytest.fixture
async def runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a test suite and the exports of two runs, in one file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.delenv("FLOWSTORE_UPDATE", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    store = pytester.path / "flowstore.db"
    await checked.record(store, range(1, 3))
    queries = open_queries(parse(str(store)))
    folder = pytester.path / "tests" / "runs"
    folder.mkdir(parents=True)
    write_file(folder / "orders.jsonl", await queries.read_archives(["order-1", "order-2"]))
    (pytester.path / "tests" / "test_orders.py").write_text(re.sub(r"(?m)^    ", "", SUITE))
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makeconftest('pytest_plugins = ["flowstore.testing.plugin"]')
    return folder


@pytest.fixture
def suite(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    def run(code: str, *options: str) -> pytest.RunResult:
        monkeypatch.setenv("CODE", code)
        # Tests that share processes need some.
        begin = pytester.runpytest_subprocess if "-n2" in options else pytester.runpytest_inprocess
        plugins = ("-p", "xdist") if "-n2" in options else ()
        return begin("-p", "asyncio", *plugins, "-p", "no:cacheprovider", "-v", *options)

    return run


pytestmark = pytest.mark.usefixtures("runs")


# --- in a suite of its own ---------------------------------------------------------------


def test_each_run_is_a_test_case(suite: Callable[..., pytest.RunResult]):
    done = suite("same")
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(["*test_orders?order-1?*PASSED*", "*test_orders?order-2?*PASSED*"])


def test_a_failure_is_the_report(suite: Callable[..., pytest.RunResult]):
    done = suite("stamped")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(
        [
            "*run 'order-1' of workflow 'shop' goes another way:",
            "*position 1, 'order': handler 'sell' leaves another state: *",
            "*  state.stamp",
            '*    recorded: "then"',
            '*    now:      "now"',
            '*if that is intended: pytest --flowstore-update "why", which writes *',
        ]
    )
    assert "recorded.py" not in done.stdout.str()  # the helper's own code helps no one


def test_accept_and_update(suite: Callable[..., pytest.RunResult], runs: Path):
    """What users of snapshot tests expect: update, review, pass; then fail on anything else."""
    suite("dearer", "--flowstore-update", "a new price").assert_outcomes(passed=2)
    entries = read_accepted(runs / "orders.accepted.toml")
    assert {each.run for each in entries} == {"order-1", "order-2"}
    assert {each.reason for each in entries} == {"a new price"}
    suite("dearer").assert_outcomes(passed=2)
    done = suite("dearer_and_chatty")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["*handler 'sell' emits 'thanked', which it did not then"])


def test_an_update_that_changes_nothing_writes_nothing(
    suite: Callable[..., pytest.RunResult], runs: Path
):
    suite("same", "--flowstore-update", "nothing new").assert_outcomes(passed=2)
    assert [each.name for each in runs.iterdir()] == ["orders.jsonl"]


def test_what_does_not_occur_any_more_fails_until_it_is_taken_out(
    suite: Callable[..., pytest.RunResult], runs: Path
):
    suite("stamped", "--flowstore-update", "a new stamp").assert_outcomes(passed=2)
    done = suite("same")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(
        ["*run 'order-1': what is accepted in *orders.accepted.toml does not occur any more:",
         "*in sell: state.stamp"]
    )  # fmt: skip
    suite("same", "--flowstore-update", "as it was").assert_outcomes(passed=2)
    assert read_accepted(runs / "orders.accepted.toml") == []
    suite("same").assert_outcomes(passed=2)


def test_the_environment_says_it_without_the_plugin(
    suite: Callable[..., pytest.RunResult],
    runs: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
):
    (pytester.path / "conftest.py").unlink()
    monkeypatch.setenv("FLOWSTORE_UPDATE", "a new stamp")
    suite("stamped").assert_outcomes(passed=2)
    monkeypatch.delenv("FLOWSTORE_UPDATE")
    suite("stamped").assert_outcomes(passed=2)
    assert len(read_accepted(runs / "orders.accepted.toml")) == 2


def test_processes_that_update_one_file_lose_nothing(
    suite: Callable[..., pytest.RunResult], runs: Path
):
    suite("stamped", "--flowstore-update", "a new stamp", "-n2").assert_outcomes(passed=2)
    assert len(read_accepted(runs / "orders.accepted.toml")) == 2


@pytest.mark.parametrize("reason", ["", "tests"])
def test_an_update_needs_a_reason(reason: str, suite: Callable[..., pytest.RunResult], runs: Path):
    done = suite("stamped", "--flowstore-update", reason)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*say why the divergences are intended*"])
    assert [each.name for each in runs.iterdir()] == ["orders.jsonl"]


def test_a_file_that_cannot_be_read_fails_alone(suite: Callable[..., pytest.RunResult], runs: Path):
    (runs / "broken.jsonl").write_text('{"specversion": "1.0"\n')
    done = suite("same")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*test_orders?broken.jsonl?*FAILED*", "*broken.jsonl, line 1*"])


def test_no_file_at_all_is_an_error(suite: Callable[..., pytest.RunResult], runs: Path):
    (runs / "orders.jsonl").unlink()
    done = suite("same")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*FileNotFoundError: no file is called 'runs/?.jsonl' in *"])


# --- as functions ------------------------------------------------------------------------


def test_where_files_are_looked_for(runs: Path):
    assert [str(each.values[0]) for each in recorded_runs(runs / "*.jsonl")] == [
        "order-1",
        "order-2",
    ]
    with pytest.raises(FileNotFoundError, match=re.escape(str(Path(__file__).parent))):
        recorded_runs("runs/*.jsonl")  # beside this file, not in the working directory


async def test_ignored_paths_and_an_archive(runs: Path):
    (archive, *_) = read_file(runs / "orders.jsonl")
    await assert_replays(checked.same(), archive)
    await assert_replays(checked.stamped(), archive, ignore=["state.stamp"])
    await assert_replays(checked.other_step(), archive, live=["bill"])
    with pytest.raises(AssertionError, match="reached for step 'bill'"):
        await assert_replays(checked.other_step(), archive)


async def test_accepted_changes_in_a_file_of_another_name(
    runs: Path, monkeypatch: pytest.MonkeyPatch
):
    (archive, *_) = read_file(runs / "orders.jsonl")
    monkeypatch.setenv("FLOWSTORE_UPDATE", "why not")
    with pytest.raises(AcceptedFileError, match="accepted="):
        await assert_replays(checked.stamped(), archive)
    await assert_replays(checked.stamped(), archive, accepted=runs / "mine.toml")
    monkeypatch.delenv("FLOWSTORE_UPDATE")
    await assert_replays(checked.stamped(), archive, accepted=runs / "mine.toml")
    monkeypatch.setenv("FLOWSTORE_UPDATE", " ")
    with pytest.raises(AcceptedFileError, match="say why"):
        await assert_replays(checked.dearer(), archive, accepted=runs / "mine.toml")


async def test_hostile_names_steer_no_terminal(
    make: Callable[..., WorkflowManager], path: Path, tmp_path: Path
):
    workflow = make(path, name="shop").register("order", lambda _event: None, name="a\x1b[31m")
    await workflow.send(WorkflowEvent("order", 1), correlation_id="order \x1b]0;x\x07")
    await workflow.resume()
    await workflow.close()
    file = tmp_path / "hostile.jsonl"
    write_file(file, await open_queries(parse(str(path))).read_archives(["order \x1b]0;x\x07"]))
    (archive,) = read_file(file)
    with pytest.raises(AssertionError) as caught:
        await assert_replays(checked.same(), RecordedRun(file, archive))
    assert "\x1b" not in str(caught.value)
    assert "\\x1b[31m" in str(caught.value)
