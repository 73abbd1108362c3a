"""What a log has in it: counts by level and source, its first and last time, some records."""

from collections import Counter
from dataclasses import dataclass, field

from ai_stack.skill import JSON

from .records import LEVELS, Record, moment

MAX_SOURCES = 10_000
SHOWN_SOURCES = 20


@dataclass(slots=True)
class Counts:
    """Counts records, and keeps the first few of them."""

    kept_records: int
    records: int = 0
    timed: int = 0
    start: float | None = None
    end: float | None = None
    levels: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    first: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        self.records += 1
        self.levels[record.level] += 1
        if record.source in self.sources or len(self.sources) < MAX_SOURCES:
            self.sources[record.source] += 1
        if len(self.first) < self.kept_records:
            self.first.append(record)
        if record.time is not None:
            self.timed += 1
            self.start = record.time if self.start is None else min(self.start, record.time)
            self.end = record.time if self.end is None else max(self.end, record.time)

    def shown(self) -> dict[str, JSON]:
        named = {source: n for source, n in self.sources.most_common() if source}
        return {
            "records": self.records,
            "with_time": self.timed,
            "first": None if self.start is None else moment(self.start),
            "last": None if self.end is None else moment(self.end),
            "levels": {
                level or "none": self.levels[level] for level in ("", *LEVELS) if self.levels[level]
            },
            "sources": dict([*named.items()][:SHOWN_SOURCES]),
            "sample": [dict(record.shown()) for record in self.first],
        }
