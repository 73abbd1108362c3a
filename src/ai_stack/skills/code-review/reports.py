"""The findings as SARIF 2.1.0, which code hosts and editors read, and as Markdown for people."""

import hashlib
from collections.abc import Sequence
from urllib.parse import quote

from ai_stack.skill import JSON

from .findings import MAX_MESSAGE, SEVERITIES, Finding, counts

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"high": "error", "medium": "warning", "low": "note"}
SECURITY = {"high": "8.0", "medium": "5.5", "low": "3.0"}
MAX_ROWS = 1_000


def sarif(found: Sequence[Finding]) -> dict[str, JSON]:
    """One run with all findings."""
    rules = {finding.rule: finding for finding in found}
    place = {rule: n for n, rule in enumerate(rules)}
    driver: dict[str, JSON] = {
        "name": "ai-stack code-review",
        "rules": [_rule(finding) for finding in rules.values()],
    }
    run: dict[str, JSON] = {
        "tool": {"driver": driver},
        "columnKind": "utf16CodeUnits",
        "results": [_result(finding, place[finding.rule]) for finding in found],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(finding: Finding) -> dict[str, JSON]:
    properties: dict[str, JSON] = {"tags": [finding.kind]}
    if finding.kind in ("security", "secret"):
        properties["security-severity"] = SECURITY[finding.severity]
    return {
        "id": finding.rule,
        "shortDescription": {"text": f"{finding.kind}: {finding.rule}"},
        "properties": properties,
    }


def _result(finding: Finding, rule: int) -> dict[str, JSON]:
    region: dict[str, JSON] = {"startLine": finding.line}
    if finding.end_line > finding.line:
        region["endLine"] = finding.end_line
    print_ = hashlib.sha256(f"{finding.rule}\0{finding.path}\0{finding.message}".encode())
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": finding.message[:MAX_MESSAGE]},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(finding.path)},
                    "region": region,
                }
            }
        ],
        "partialFingerprints": {"finding/v1": print_.hexdigest()[:32]},
    }


def markdown(found: Sequence[Finding], files: int, notes: Sequence[str]) -> str:
    """A report with a table of each severity."""
    told = ", ".join(f"{n} {kind}" for kind, n in counts(found).items()) or "nothing"
    lines = ["# Code review", "", f"{files} files reviewed; found: {told}."]
    for severity in SEVERITIES:
        rows = [finding for finding in found if finding.severity == severity]
        if rows:
            lines += ["", f"## {severity.capitalize()}", "", "| where | kind | rule | what |"]
            lines += ["|---|---|---|---|", *map(_row, rows[:MAX_ROWS])]
        if len(rows) > MAX_ROWS:
            lines += ["", f"{len(rows) - MAX_ROWS} more are in review.sarif."]
    return "\n".join([*lines, *(("", "## Notes", "") if notes else ()), *notes]) + "\n"


def _row(finding: Finding) -> str:
    where = _plain(f"{finding.path}:{finding.line}")
    return f"| {where} | {finding.kind} | {finding.rule} | {_plain(finding.message)} |"


def _plain(text: str) -> str:
    """A cell's text: names in reviewed code end no table and open no markup."""
    flat = " ".join(text[:MAX_MESSAGE].split())
    return "".join(f"\\{c}" if c in "|<>[]*_`\\" else c for c in flat)
