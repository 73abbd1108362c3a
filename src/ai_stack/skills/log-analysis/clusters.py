"""Messages by their pattern: Drain's tree over messages whose numbers are masked already.

It keeps no messages: a pattern, counts and one example of each, of at most so many. A log of which
every message is another would make the tree slow, so that it learns so many patterns and no more;
what comes later goes by its first word and its number of words.
"""

import re
from dataclasses import dataclass, field

from drain3.drain import Drain

from ai_stack.skill import JSON

from .records import Record, moment

MAX_LEARNT = 2_000
MAX_CLUSTERS = 5_000
MAX_KNOWN = 50_000
MAX_TOKENS_TEXT = 600
LONGEST_SHOWN = 400
PARAMETER = "<*>"
OTHERS = "(others)"
VARIABLE = re.compile(
    r"\b(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
    r"|0x[0-9a-fA-F]+"
    r"|(?=[a-f]*[0-9])[0-9a-f]{8,64}"
    r"|\d+(?:[.,:/-]\d+)*(?:[a-zµ]{1,2}|%)?)\b"
)


@dataclass(slots=True)
class Cluster:
    """One pattern; lines and times are of its first and last record."""

    id: str
    template: str
    first_line: int
    example: str
    count: int = 0
    last_line: int = 0
    first_time: float | None = None
    last_time: float | None = None
    levels: dict[str, int] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        self.count += 1
        self.last_line = record.line
        self.levels[record.level] = self.levels.get(record.level, 0) + 1
        if record.time is not None:
            if self.first_time is None:
                self.first_time = record.time
            self.last_time = record.time

    @property
    def level(self) -> str:
        """The level that most of its records have."""
        return max(self.levels, key=lambda level: self.levels[level], default="")

    def shown(self) -> dict[str, JSON]:
        return {
            "template": self.template[:LONGEST_SHOWN],
            "count": self.count,
            "levels": {level or "none": n for level, n in self.levels.items()},
            "first_line": self.first_line,
            "last_line": self.last_line,
            "first": None if self.first_time is None else moment(self.first_time),
            "last": None if self.last_time is None else moment(self.last_time),
            "example": self.example[:LONGEST_SHOWN],
        }


class Clusters:
    """Takes records, gives clusters; equal masked messages pass the tree by."""

    def __init__(self) -> None:
        self._drain = Drain(
            depth=4,
            sim_th=0.5,
            max_children=100,
            extra_delimiters=("=",),
            param_str=PARAMETER,
        )
        self._known: dict[str, str] = {}
        self.found: dict[str, Cluster] = {}
        self.records = 0

    def add(self, record: Record) -> Cluster:
        """The cluster that a record belongs to."""
        self.records += 1
        masked = VARIABLE.sub(PARAMETER, record.message[:MAX_TOKENS_TEXT])
        id = self._known.get(masked)
        cluster = self.found[self._learn(masked, record) if id is None else id]
        cluster.add(record)
        return cluster

    def _learn(self, masked: str, record: Record) -> str:
        if len(self._drain.id_to_cluster) < MAX_LEARNT:
            grown, _ = self._drain.add_log_message(masked)
            id, template = f"{grown.cluster_id}", str(grown.get_template())
        else:
            id = template = _coarse(masked)
        if id not in self.found and len(self.found) >= MAX_CLUSTERS:
            id = template = OTHERS
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[masked] = id
        if id in self.found:
            self.found[id].template = template
        else:
            self.found[id] = Cluster(id, template, record.line, record.message)
        return id

    def ranked(self) -> list[Cluster]:
        """The commonest first."""
        return sorted(self.found.values(), key=lambda c: (-c.count, c.first_line))


def _coarse(masked: str) -> str:
    words = masked.split(" ")
    return f"{words[0][:40]} … ({len(words)} words)"
