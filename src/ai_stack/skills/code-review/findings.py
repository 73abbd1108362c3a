"""A finding: what is wrong at a line, how bad it is, and who says so."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .sources import Source

Kind: TypeAlias = Literal["bug", "security", "secret", "complexity", "syntax", "conflict"]
Severity: TypeAlias = Literal["high", "medium", "low"]
KINDS: tuple[Kind, ...] = ("bug", "security", "secret", "complexity", "syntax", "conflict")
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
MAX_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """`end_line` is the last line of what is meant, which for a function is its end."""

    path: str
    line: int
    kind: Kind
    rule: str
    severity: Severity
    message: str
    end_line: int = 0

    def to_json(self) -> dict[str, str | int]:
        return {
            "path": self.path,
            "line": self.line,
            "kind": self.kind,
            "rule": self.rule,
            "severity": self.severity,
            "message": self.message[:MAX_MESSAGE],
        }


def relevant(found: Iterable[Finding], sources: Sequence[Source], least: Severity) -> list[Finding]:
    """Each once, those of lines under review and of at least this severity, worst first."""
    asked = {source.path: source.lines for source in sources}
    rank = {severity: n for n, severity in enumerate(SEVERITIES)}
    kept = [
        finding
        for finding in dict.fromkeys(found)
        if rank[finding.severity] <= rank[least] and _touches(finding, asked.get(finding.path))
    ]
    return sorted(kept, key=lambda f: (rank[f.severity], f.path, f.line, f.rule))


def counts(found: Iterable[Finding]) -> dict[str, int]:
    """How many there are of each kind, in the order of KINDS."""
    counted = Counter(finding.kind for finding in found)
    return {kind: counted[kind] for kind in KINDS if counted[kind]}


def _touches(finding: Finding, lines: frozenset[int] | None) -> bool:
    if lines is None:
        return True
    return any(finding.line <= n <= max(finding.line, finding.end_line) for n in lines)
