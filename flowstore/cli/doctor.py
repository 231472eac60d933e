"""The command ``doctor``: what is worth knowing about a database, each with its remedy."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from flowstore.cli import output, terminal
from flowstore.cli.database import looking
from flowstore.cli.reading import existing
from flowstore.errors import StoreError
from flowstore.store.doctor import examine
from flowstore.store.doctor_findings import error
from flowstore.store.url import parse

if TYPE_CHECKING:
    from flowstore.store.doctor_findings import Finding

_STYLES = {"info": terminal.QUIET, "warning": terminal.HELD, "error": terminal.BAD}


def diagnose(store: str, *, full: bool, as_json: bool) -> int:
    """Print what is found; 1 if any of it is a warning or worse."""
    path = existing(store)
    findings: list[Finding] = []
    try:
        with looking(path) as connection:
            findings.extend(examine(connection, parse(store), path, full=full))
    except StoreError as problem:
        findings.append(error("file", str(problem), "see --store; else restore a backup"))
    is_well = all(finding.severity == "info" for finding in findings)
    with output.unread_or_not():
        if as_json:
            found = [asdict(finding) for finding in findings]
            output.print_json({"store": str(path), "ok": is_well, "findings": found})
            return int(not is_well)
        for finding in findings:
            _print(finding)
        if is_well:
            output.write(f"{path}: well\n")
    return int(not is_well)


def _print(finding: Finding) -> None:
    lead = f"{finding.severity.ljust(7)}  {finding.check.ljust(11)}  "
    text = finding.message
    if finding.remedy is not None:
        text += f" -> {finding.remedy}"
    style = _STYLES[finding.severity]
    output.print_line([(lead, style), (output.printable(text), terminal.PLAIN)])
