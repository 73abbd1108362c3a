"""An audit as Markdown."""

from collections.abc import Sequence

from .faults import KINDS, Fault
from .project import Project

MAX_ROWS = 500


def markdown(project: Project, found: Sequence[Fault], notes: Sequence[str]) -> str:
    """What was read, then a table of each kind of fault, then what is not known."""
    lines = ["# Dependency audit", "", "| file | kind | packages |", "|---|---|---|"]
    lines += [f"| {_plain(k.path)} | {k.kind} | {len(k.packages)} |" for k in project.locks]
    for kind in KINDS:
        rows = [fault for fault in found if fault.kind == kind]
        if rows:
            lines += ["", f"## {kind.capitalize()}: {len(rows)}", ""]
            lines += ["| where | package | version | what |", "|---|---|---|---|"]
            lines += map(_row, rows[:MAX_ROWS])
    if not found:
        lines += ["", "No fault was found."]
    return "\n".join([*lines, *(("", "## Not known", "") if notes else ()), *notes]) + "\n"


def _row(fault: Fault) -> str:
    where, package = _plain(f"{fault.path}:{fault.line}"), _plain(fault.package)
    return f"| {where} | {package} | {_plain(fault.version)} | {_plain(fault.message)} |"


def _plain(text: str) -> str:
    """A cell's text, in which no name of a package opens markup."""
    flat = " ".join(text[:400].split())
    return "".join(f"\\{c}" if c in "|<>[]*_`\\" else c for c in flat)
