"""The pages in docs/ as their readers follow them: programs are run, their output compared."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from programs import ROOT
from test_readme import blocks, matches, run_python

PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def text_of(page):
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


# What else there is on a page is run by a test of its own.
HAVE_TESTS = {"checking.md", "debugging.md"}
PROGRAMS = [
    pytest.param(program, shown, id=program.text.split("\n")[0])
    for page in PAGES
    if page not in HAVE_TESTS
    for program, shown in pairwise(blocks(text_of(page)))
    if program.language == "python"
]


@pytest.mark.parametrize(("program", "shown"), PROGRAMS)
def test_a_program_does_what_the_page_says(tmp_path, program, shown):
    assert (program.language, shown.language) == ("python", "text")
    output = run_python(program, tmp_path)
    assert matches(shown.text, output), f"the page:\n{shown.text}\nreally:\n{output}"


def test_there_are_programs():
    assert len(PROGRAMS) >= 6


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = text_of(page)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for file, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if "://" not in file:
            assert (ROOT / "docs" / file).exists(), file
        if not file:
            assert anchor in anchors, anchor
