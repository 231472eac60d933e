"""The page docs/debugging.md as its readers follow it: five bugs, found in three commands each."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest
from command_line import Called, settle
from programs import EXAMPLES, ROOT, TIMEOUT, environment
from test_readme import Block, blocks
from typer.main import get_command

from flowstore.cli.app import app

PAGE = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8")
PROGRAM = EXAMPLES / "planted_bugs.py"
PLANTED = runpy.run_path(str(PROGRAM))
APP = "writing_pipeline:pipeline"
MOST_COMMANDS = 3
LOOKS = r"(show|state|history|why|trace|grep|replay|check|verify|doctor|dead list|diff)\b"


class Command(NamedTuple):
    """A line that is typed, and what the page says that it prints."""

    line: str
    shown: str

    @property
    def typed(self):
        """Return what is typed at the debugger's prompt."""
        return "".join(
            f"{words}\n" for words in re.findall(r"^\(Pdb\) (.*)$", self.shown, re.MULTILINE)
        )

    @property
    def printed(self):
        """Return what is printed: what is typed is shown by the terminal."""
        return re.sub(r"^\(Pdb\) .*\n", "(Pdb) ", self.shown, flags=re.MULTILINE)


def commands(block):
    """Return the commands of a block: each begins with ``$`` and may go on with a backslash."""
    parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", block.text, flags=re.MULTILINE)
    assert parts[0] == ""
    return [Command(*each) for each in zip(parts[1::2], parts[2::2], strict=True)]


class Section(NamedTuple):
    """A part of the page: the copy that it is about, and its blocks."""

    title: str
    copy: str
    blocks: list[Block]

    @property
    def is_about_a_bug(self):
        return re.match(r"\d\. ", self.title) is not None


def sections():
    for text in PAGE.split("\n## ")[1:]:
        first = re.search(r"^\$ cd planted/(\S+)$", text, re.MULTILINE)
        if first is not None:
            title = text.partition("\n")[0]
            yield pytest.param(Section(title, first[1], blocks(text)), id=title)


SECTIONS = list(sections())
BUGS = [each for each in SECTIONS if each.values[0].is_about_a_bug]


def normal(text):
    """Make one of columns that are as wide as their content needs: times differ in length."""
    return re.sub(r" {2,}", "  ", text)


def matches(shown, output):
    """Compare; ``…`` stands for anything within a line, alone on a line for any lines."""
    pattern = ""
    for line in normal(shown).splitlines():
        parts = ".*".join(re.escape(part) for part in line.rstrip().split("…"))
        pattern += "(?:.*\n)*?" if line.strip() == "…" else f"{parts} *\n"
    return re.fullmatch(pattern, normal(output)) is not None


def shell(command, folder):
    """Run a command as somebody does who has activated the environment."""
    variables = {**environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    if "pytest" in command.line:  # our plugins and their warnings are not the reader's
        variables |= {"PYTHONWARNINGS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        ["/bin/sh", "-c", f"PATH='{folder.parent.parent / 'bin'}':$PATH\n{command.line}"],
        cwd=folder,
        input=command.typed,
        env=variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.fixture(scope="session")
def all_planted(tmp_path_factory):
    """Make the copies as the page says; what they leave is looked at and not changed."""
    assert "\npython examples/planted_bugs.py planted\n" in PAGE
    base = tmp_path_factory.mktemp("debugging")
    made = subprocess.run(
        [sys.executable, str(PROGRAM), "planted"],
        cwd=base,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    (base / "bin").mkdir()
    for name, words in (("python", '"$@"'), ("flowstore", '-m flowstore.cli "$@"')):
        (base / "bin" / name).write_text(f"#!/bin/sh\nexec '{sys.executable}' {words}\n")
        (base / "bin" / name).chmod(0o755)
    return base


@pytest.fixture
def planted(all_planted, tmp_path):
    """Return what makes a copy of a copy, which can be changed."""
    shutil.copytree(all_planted / "bin", tmp_path / "bin")

    def take(name):
        return shutil.copytree(all_planted / "planted" / name, tmp_path / "planted" / name)

    return take


def follow(section, folder):
    """Type what a section says, and make the changes that it shows."""
    changes = PLANTED["changes"](section.copy) if section.is_about_a_bug else []
    is_there = section.copy == "schema"  # its first change was deployed, and is what broke it
    for block in section.blocks:
        if block.language == "diff" and is_there:
            is_there = False
        elif block.language == "diff":
            changes[-1].apply(folder)
        if block.language == "python":
            name = block.text.split()[1]
            (folder / name).write_text(block.text, encoding="utf-8")
        for command in commands(block) if block.language == "console" else ():
            if not command.line.startswith("cd "):
                done = shell(command, folder)
                yield command, done


def check(command, done):
    printed = done.stdout + done.stderr if done.returncode == 2 else done.stdout
    assert matches(command.printed, printed), (
        f"$ {command.line}\nthe page:\n{command.shown}\nreally ({done.returncode}):\n"
        f"{printed}\n{done.stderr}"
    )
    assert done.returncode == int(is_bad_news(command)), command.line


def is_bad_news(command):
    told = r"\bdiverge|not sound|^\+\+\+ |^warning "
    return re.search(told, command.shown, re.MULTILINE) is not None


def only_looks(command):
    """Tell whether a command may change nothing, neither in the store nor outside (G12)."""
    if re.search(r" (--live|--update|-o|--into) ", command.line):
        return False
    return re.match(rf"flowstore {LOOKS}", command.line) is not None


def contents(folder):
    """Return what runs have left behind: in stores, and outside."""
    files = [*folder.glob("*.db"), *folder.glob("*.jsonl"), *folder.glob("desk/**/*")]
    return {path: path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_says_what_is_there(section, planted):
    """G12."""
    folder = planted(section.copy)
    followed, before = 0, contents(folder)
    for command, done in follow(section, folder):
        check(command, done)
        if only_looks(command):
            assert contents(folder) == before, command.line
        before = contents(folder)
        followed += 1
    assert followed


def test_there_are_five_bugs():
    assert len(BUGS) == 5
    assert [each.values[0].copy for each in BUGS] == list(PLANTED["BUGS"])


@pytest.mark.parametrize("section", BUGS)
def test_a_bug_is_found_in_three_commands_or_fewer(section):
    found = []
    for block in section.blocks:
        if block.language == "diff" and found:
            break
        if block.language == "console":
            found += [each for each in commands(block) if not each.line.startswith("cd ")]
    else:
        pytest.fail("a section ends with what mends the bug, and its proof")
    assert 1 <= len(found) <= MOST_COMMANDS
    assert all(each.line.startswith("flowstore ") for each in found)


# --- negative controls ----------------------------------------------------------------------


def test_the_unbroken_pipeline_is_found_sound(all_planted, capfd, monkeypatch):
    folder = all_planted / "planted" / "unbroken"
    everything = Command(f"flowstore check --app {APP}", "12 runs of writing: 12 identical\n")
    check(everything, shell(everything, folder))
    settle(folder, monkeypatch)
    for line, said in (("verify", ": sound: "), ("dead list", ""), ("doctor", ": well\n")):
        called = Called(capfd, *line.split())
        assert called.code == 0
        assert said in called.out


def charges(folder):
    """Return the keys under which the model was asked, once for each time."""
    lines = (folder / "desk" / "calls.jsonl").read_text(encoding="utf-8").splitlines()
    return [call["key"] for call in map(json.loads, lines) if call["tool"] == "model"]


def test_a_crash_charges_once_if_it_interrupts_a_step(all_planted, tmp_path):
    """G3: killed before its result is recorded a step runs again, with the same key."""
    twice = charges(all_planted / "planted" / "charged-twice")
    assert (len(twice), len(set(twice))) == (13, 13)
    PLANTED["copy"](tmp_path / "charged-once")
    PLANTED["die_and_go_on"](tmp_path / "charged-once")
    once = charges(tmp_path / "charged-once")
    assert (len(once), len(set(once))) == (13, 12)


def test_the_comparison_can_fail():
    assert matches("a  …\n…\nd\n", "a      b\nc\nd\n")
    assert not matches("a …\nd\n", "a b\nc\nd\n")
    assert not matches("a\n", "b\n")
    assert Command("", "> x\n(Pdb) n\n> y\n(Pdb) c\n").typed == "n\nc\n"


NOT_THERE = [
    *(
        "drops",
        "dead list x",
        "verify",
        "show",
        "log",
        "state",
        "history",
        "why",
        "trace",
        "grep a-b-c",
        "tail",
        "dead show x 1",
    ),
    *(f"replay x --app {APP}", f"check x --app {APP}", "fork x --at 1", "export x", "import x"),
    *("complete x 1", "dead retry x 1", "dead discard x 1"),
]


@pytest.mark.parametrize("line", NOT_THERE)
def test_what_is_not_there_is_told_with_exit_code_1(all_planted, capfd, monkeypatch, line):
    settle(all_planted / "planted" / "unbroken", monkeypatch)
    words = line.split()
    called = Called(capfd, *(words if len(words) > 1 else [line, "x"]))
    assert (called.code, called.out) == (1, ""), called.err
    assert called.err.count("\n") == 1


@pytest.fixture(scope="module")
def program():
    return get_command(app)


def understood(program, span):
    """Return the command that some code within a sentence names, and the options that it lacks."""
    words, found = span.removeprefix("flowstore ").split(), program
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    options = {name for parameter in found.params for name in parameter.opts}
    return found, [word for word in words if word.startswith("--") and word not in options]


def test_commands_within_sentences_are_understood(program):
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose)]
    found = {span: understood(program, span) for span in spans}
    named = [span for span, (command, _) in found.items() if command is not program]
    assert {span for span in spans if span.startswith("flowstore ")} <= {
        *named,
        "flowstore COMMAND --help",
    }
    assert len(named) >= 30
    assert {span: found[span][1] for span in named if found[span][1]} == {}
    assert understood(program, "flowstore check --no-such-thing")[1] == ["--no-such-thing"]


def test_the_table_has_every_command(program):
    table = PAGE.partition("\n## The commands")[2]
    named = {
        words.split()[0]
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for words in re.findall(r"`(.*?)`", row)
    }
    assert named == set(program.commands)
