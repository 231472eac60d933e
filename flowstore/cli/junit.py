"""What a check found, as JUnit XML: one test case for each run.

The schema is the one that Jenkins, GitLab and others read (``junit-10.xsd``).
"""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from flowstore.printable import printable
from flowstore.replay.check import DIVERGED, UNREADABLE
from flowstore.replay.telling import divergence_lines

if TYPE_CHECKING:
    from pathlib import Path

    from flowstore.replay.check import Findings, Verdict


def write_junit(path: Path, workflow: str, findings: Findings, moment: str) -> None:
    """Write a file, or leave the one that is there as it is; what is no file is written to.

    Args:
        path: the file.
        workflow: what the suite is called.
        findings: what is written.
        moment: when the check began, in ISO 8601.

    Raises:
        OSError: it cannot be written.
    """
    name = printable(workflow)
    seconds = f"{sum(each.seconds for each in findings.verdicts):.3f}"
    counts = {
        "tests": str(len(findings.verdicts)),
        "failures": str(findings.count(DIVERGED)),
        "errors": str(findings.count(UNREADABLE)),
    }
    root = Element("testsuites", {"name": "flowstore check", **counts, "time": seconds})
    suite = SubElement(
        root,
        "testsuite",
        {"name": name, **counts, "skipped": "0", "time": seconds, "timestamp": moment},
    )
    for verdict in findings.verdicts:
        _add(suite, name, verdict)
    indent(root)
    if path.exists() and not path.is_file():  # a pipe, or a device such as /dev/stdout
        with path.open("wb") as file:
            ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
        return
    place = path.resolve()
    fresh = place.with_name(f".{place.name[:100]}.{token_hex(8)}")
    try:
        ElementTree(root).write(fresh, encoding="utf-8", xml_declaration=True)
        fresh.replace(place)
    finally:
        fresh.unlink(missing_ok=True)


def _add(suite: Element, workflow: str, verdict: Verdict) -> None:
    case = SubElement(
        suite,
        "testcase",
        {
            "classname": workflow,
            "name": printable(verdict.correlation_id),
            "time": f"{verdict.seconds:.3f}",
        },
    )
    if verdict.divergence is not None:
        divergence = verdict.divergence
        about = {"type": divergence.kind, "message": printable(divergence.message)}
        SubElement(case, "failure", about).text = "\n".join(divergence_lines(divergence))
    elif verdict.problem is not None:
        about = {"type": UNREADABLE, "message": printable(verdict.problem)}
        SubElement(case, "error", about).text = printable(verdict.problem)
    if verdict.accepted:
        SubElement(case, "system-out").text = "\n".join(
            f"accepted ({printable('; '.join(entry.reason for entry in entries))}): "
            f"{printable(divergence.message)}"
            for divergence, entries in verdict.accepted
        )
