"""The README as a newcomer follows it: its programs and commands are run, its output compared."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from typing import NamedTuple

import pytest
from programs import EXAMPLES, ROOT, TIMEOUT, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
JOB = README.partition("## A real job")[2].partition("\n## ")[0]
TOUR = README.partition("## Five minutes")[2].partition("\n## ")[0]


class Block(NamedTuple):
    language: str
    text: str


def blocks(text):
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


def execute(command, folder):
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_python(block, folder):
    name = re.match(r"# (\w+\.py)\n", block.text)
    assert name, "a program of the tour says in its first line what its file is called"
    (folder / name[1]).write_text(block.text, encoding="utf-8")
    return execute([sys.executable, name[1]], folder)


def run_commands(block, folder):
    for line in block.text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "flowstore"
        main = "import sys; from flowstore.cli import main; sys.exit(main())"
        yield execute([sys.executable, "-c", main, *arguments], folder)


def matches(expected, output):
    """Compare, where ``…`` stands for anything within a line."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, output) is not None


def test_the_tour_does_what_it_says(tmp_path):
    shown = None
    counts = {"python": 0, "sh": 0, "text": 0}
    for block in blocks(TOUR):
        counts[block.language] += 1
        if block.language == "python":
            shown = run_python(block, tmp_path)
        elif block.language == "sh":
            for shown in run_commands(block, tmp_path):
                assert shown.strip()
        else:
            assert matches(block.text, shown), f"README:\n{block.text}\nreally:\n{shown}"
    assert (counts["python"], counts["text"]) == (6, 7)
    assert counts["sh"]


def test_the_first_program_run_twice_asks_once(tmp_path):
    first = next(block for block in blocks(TOUR) if block.language == "python")
    before, after = run_python(first, tmp_path), run_python(first, tmp_path)
    asking = "(asking, which costs money)\n"
    assert asking in before
    assert after == before.replace(asking, "")


def test_the_comparison_of_output_can_fail():
    assert matches("a … c\n", "a b c\n")
    assert not matches("a … c\n", "a b d\n")
    assert not matches("a … c\n", "a b\nb c\n")


def shell(text, folder):
    """Run commands as a newcomer in a clone does, whose environment is activated."""
    tools = folder / "bin"
    if not tools.exists():
        tools.mkdir()
        (folder / "examples").symlink_to(EXAMPLES)
        for name, words in (("python", '"$@"'), ("flowstore", '-m flowstore.cli "$@"')):
            (tools / name).write_text(f"#!/bin/sh\nexec '{sys.executable}' {words}\n")
            (tools / name).chmod(0o755)
    return execute(["sh", "-c", f"PATH='{tools}':$PATH\n{text}"], folder)


def test_the_main_job_does_what_it_says(tmp_path):
    [killed, approved, result, looked, code] = blocks(JOB)
    assert [block.language for block in (killed, approved, result, looked, code)] == [
        *("sh", "sh", "text", "sh", "python")
    ]
    assert "draft ready 10, needs a person 2" in shell(killed.text, tmp_path)
    assert "published" not in {path.name for path in tmp_path.glob("desk/*")}
    shown = shell(approved.text, tmp_path)
    assert shown.endswith(result.text.removeprefix("…"))
    runs, *shown = [shell(line, tmp_path) for line in looked.text.splitlines()]
    assert len(runs.splitlines()) == 13
    assert "completed" in shown[0]
    assert "parked by Pipeline.publish" in shown[1]
    program = re.search(r"examples/\w+\.py", JOB)
    assert program
    assert textwrap.indent(code.text, "    ") in (ROOT / program[0]).read_text(encoding="utf-8")


def test_the_two_commands_name_what_there_is():
    commands = README.partition("## Two commands")[2].partition("\n## ")[0]
    first, second = (block.text.strip() for block in blocks(commands))
    script = re.search(r"examples/(\S+)$", first)
    assert script
    assert (EXAMPLES / script[1]).is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    checked = re.search(r'^test_command="(.*)"$', (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert checked
    assert second.replace(".venv/bin/", "").endswith(f" && {checked[1]}")
    assert any(name.startswith("pytest") for name in project["optional-dependencies"]["dev"])


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"])
def test_nobody_is_told_to_install_another_projects_package(name):
    place = ROOT / name
    files = place.rglob("*.md") if place.is_dir() else [place]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"install[^\n]*\sflowstore(?![-\w])", text), file
