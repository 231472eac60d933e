"""The small examples as a newcomer runs them: a process each, its output checked."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from programs import EXAMPLES, TIMEOUT, environment, read_runs, run, run_into_head

# --- simple_agent -------------------------------------------------------------------------

ANSWER = """\
[query] Reading the question: How do lighthouses warn ships?
[search] Searching 4 pages
[generate] Writing an answer from 2 pages
Answer: Lighthouses warn ships of rocks with a light whose rhythm is their name. \
Harbours give ships shelter from wind and waves.
Sources: Lighthouses, Harbours
"""

# As much of an in-memory event loop as the example needs: what microflow's users come from.
IN_MEMORY = """
from collections import deque
from dataclasses import dataclass

@dataclass
class WorkflowEvent:
    name: str
    data: object = None
    metadata: object = None
    error: object = None

    @classmethod
    def progress(cls, step_name, description, metadata=None):
        return cls("progress", {"step": step_name, "description": description}, metadata)

class WorkflowManager:
    def __init__(self, ctx=None):
        self.ctx, self.handlers = ctx or {}, {}

    def register(self, name, handler):
        self.handlers.setdefault(name, []).append(handler)
        return self

    async def process(self, event):
        pending = deque([event])
        while pending:
            event = pending.popleft()
            yield event
            for handler in self.handlers.get(event.name, []):
                try:
                    async for result in handler(event, self.ctx):
                        if result.name == "progress":
                            yield result
                        else:
                            pending.append(result)
                except Exception as error:
                    yield WorkflowEvent("error", error=str(error), metadata=event.metadata)
"""


def test_simple_agent_answers_and_keeps_its_run(tmp_path):
    done = run("simple_agent.py", cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == (ANSWER, "", 0)
    [(_, status, head, cursor)] = read_runs(tmp_path / "flowstore.db")
    assert status == "idle"
    assert head == cursor == 7  # four events and three reports of progress


def test_simple_agent_keeps_its_run_where_the_environment_says(tmp_path):
    elsewhere = tmp_path / "elsewhere.db"
    done = run("simple_agent.py", cwd=tmp_path, FLOWSTORE_URL=f"sqlite:///{elsewhere}")
    assert done.stdout == ANSWER
    assert len(read_runs(elsewhere)) == 1
    assert not (tmp_path / "flowstore.db").exists()


def test_simple_agent_shows_a_failure_as_an_error_event(tmp_path):
    done = run("simple_agent.py", "what is the?", cwd=tmp_path)
    assert done.stdout == (
        "[query] Reading the question: what is the?\n"
        "Error: there is no word in the question to search for\n"
    )
    assert done.returncode == 0
    [(_, status, _, _)] = read_runs(tmp_path / "flowstore.db")
    assert status == "failed"


@pytest.mark.parametrize("question", ["How do lighthouses warn ships?", "what is the?", "Tides?"])
def test_only_the_import_tells_simple_agent_from_an_in_memory_program(tmp_path, question):
    source = (EXAMPLES / "simple_agent.py").read_text(encoding="utf-8")
    changed, times = re.subn(
        r"^from flowstore import", "from microflow import", source, flags=re.MULTILINE
    )
    assert times == 1
    (tmp_path / "microflow.py").write_text(IN_MEMORY, encoding="utf-8")
    (tmp_path / "agent.py").write_text(changed, encoding="utf-8")
    before = run(tmp_path / "agent.py", question, cwd=tmp_path)
    after = run("simple_agent.py", question, cwd=tmp_path)
    assert (before.returncode, after.returncode) == (0, 0), before.stderr + after.stderr
    assert after.stdout == before.stdout


# --- count_to_ten -------------------------------------------------------------------------


def test_count_to_ten_goes_on_where_it_was_killed(tmp_path):
    """G3, G9: the step that was done before the kill is not done again."""
    killed = run("count_to_ten.py", "--pause", 0, "--die-at", 4, cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.split("\n")[:4] == ["1 …", "2 …", "3 …", "4 …"]
    again = run("count_to_ten.py", "--pause", 0, cwd=tmp_path)
    assert (again.stderr, again.returncode) == ("", 0)
    *spoken, last = again.stdout.strip().split("\n")
    assert spoken == [f"{number} …" for number in range(5, 11)]
    assert last == "said so far, each once: 1 2 3 4 5 6 7 8 9 10"


def test_count_to_ten_goes_on_after_ctrl_c(tmp_path):
    command = [sys.executable, str(EXAMPLES / "count_to_ten.py"), "--pause", "30"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "1 …\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=TIMEOUT)
    assert told == "interrupted; run it again to go on\n"
    again = run("count_to_ten.py", "--pause", 0, cwd=tmp_path)
    assert again.stdout.endswith("said so far, each once: 1 2 3 4 5 6 7 8 9 10\n")


def test_count_to_ten_goes_on_after_its_pipe_was_closed(tmp_path):
    assert run_into_head("count_to_ten.py", "--pause", 0.05, cwd=tmp_path) == (-signal.SIGPIPE, "")
    again = run("count_to_ten.py", "--pause", 0, cwd=tmp_path)
    assert again.stdout.endswith("said so far, each once: 1 2 3 4 5 6 7 8 9 10\n")


def test_count_to_ten_twice_counts_once(tmp_path):
    first = run("count_to_ten.py", "--pause", 0, cwd=tmp_path)
    second = run("count_to_ten.py", "--pause", 0, cwd=tmp_path)
    assert first.stdout.count("…") == 10
    assert second.stdout == "said so far, each once: 1 2 3 4 5 6 7 8 9 10\n"


def test_examples_keep_their_runs_where_the_environment_says(tmp_path):
    """Two of them in one file do not take each other's runs."""
    place = tmp_path / "elsewhere.db"
    (tmp_path / "log.jsonl").write_text(
        '{"id": "1", "case": "c", "activity": "a", "time": "2026-01-01T00:00:00Z"}\n'
    )
    for command in (["count_to_ten.py", "--pause", 0], ["simple_agent.py"]) * 2:
        assert run(*command, cwd=tmp_path, FLOWSTORE_URL=str(place)).returncode == 0
    logged = run("case_log.py", "log.jsonl", cwd=tmp_path, FLOWSTORE_URL=str(place))
    assert logged.returncode == 0
    assert not (tmp_path / "flowstore.db").exists()
    names = {name for name, *_ in read_runs(place)}
    assert {"count-to-ten", "c"} < names
    assert len(names) == 4  # each question of the agent is a run of its own
