"""What is unusual in a log: bursts, silences, errors that are new or rare.

A burst is measured against the same pattern's other times, by medians, which the burst itself
does not move.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from ai_stack.skill import JSON

from .clusters import Cluster, Clusters
from .records import Record, moment, rank
from .series import Series

STEPS = 600
FEWEST_STEPS = 10
FEWEST_IN_BURST = 10
SIGMAS = 8.0
MAD_TO_SIGMA = 1.4826
MOST_SPANS = 3
COARSER = (1, 4, 16)
BUSY = 5.0
SILENT_STEPS = 3
NEW_AFTER = 0.75
RARE = 2
WARNING, ERROR = rank("warning"), rank("error")
ALL, ERRORS = "all", "errors"
MOST = 200
ORDER = ("error_burst", "burst", "silence", "new", "rare_error")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing to look at; `weight` ranks it among those of its kind."""

    kind: str
    since: float | None
    until: float | None
    line: int
    weight: float
    facts: dict[str, JSON]

    def shown(self) -> dict[str, JSON]:
        return {
            "kind": self.kind,
            "from": None if self.since is None else moment(self.since),
            "to": None if self.until is None else moment(self.until),
            "line": self.line,
            **self.facts,
        }


@dataclass(slots=True)
class Watch:
    """Takes records; afterwards says what was unusual."""

    clusters: Clusters = field(default_factory=Clusters)
    series: Series = field(default_factory=lambda: Series(STEPS))
    first_error: int = 0
    start: float | None = None
    end: float | None = None

    def add(self, record: Record) -> None:
        cluster = self.clusters.add(record)
        is_error = record.rank >= ERROR
        if is_error and not self.first_error:
            self.first_error = record.line
        if record.time is None:
            return
        self.start = record.time if self.start is None else min(self.start, record.time)
        self.end = record.time if self.end is None else max(self.end, record.time)
        self.series.add(ALL, record.time)
        self.series.add(cluster.id, record.time)
        if is_error:
            self.series.add(ERRORS, record.time)

    @property
    def can_tell_bursts(self) -> bool:
        return len(self.series) >= FEWEST_STEPS

    def anomalies(self) -> list[Anomaly]:
        """The most telling first."""
        found = [*self._rare(), *self._new()]
        if self.can_tell_bursts:
            found += [*self._bursts(), *self._error_bursts(), *self._silences()]
        return sorted(found, key=lambda a: (ORDER.index(a.kind), -a.weight, a.line))[:MOST]

    def _bursts(self) -> Iterator[Anomaly]:
        for cluster in self.clusters.ranked():
            if cluster.count < FEWEST_IN_BURST:
                return
            facts: dict[str, JSON] = {"template": cluster.template, "level": cluster.level or None}
            yield from self._spans("burst", cluster.id, cluster.first_line, facts)

    def _error_bursts(self) -> Iterator[Anomaly]:
        yield from self._spans("error_burst", ERRORS, self.first_error, {})

    def _spans(self, kind: str, key: str, line: int, facts: dict[str, JSON]) -> Iterator[Anomaly]:
        """The bursts in the finest of some steps that shows any; a slow one needs coarse ones."""
        for factor in COARSER:
            counts = merged(self.series.of(key), factor)
            usual, limit = bounds(counts)
            spans = [*runs([n > limit for n in counts])]
            if len(counts) < FEWEST_STEPS or len(spans) > MOST_SPANS:
                return  # too short to tell, or a rhythm
            for first, last in spans:
                numbers: dict[str, JSON] = {
                    "count": sum(counts[first : last + 1]),
                    "most_per_step": max(counts[first : last + 1]),
                    "usual_per_step": usual,
                    "step_s": self.series.step_s * factor,
                }
                weight = max(counts[first : last + 1]) / max(usual, 1.0)
                place = (first * factor, (last + 1) * factor - 1)
                yield self._anomaly(kind, *place, line, weight, facts | numbers)
            if spans:
                return

    def _silences(self) -> Iterator[Anomaly]:
        counts = self.series.of(ALL)
        usual = median(counts)
        if usual < BUSY:
            return
        for first, last in runs([n == 0 for n in counts]):
            if last - first + 1 >= SILENT_STEPS:
                facts: dict[str, JSON] = {"usual_per_step": usual, "step_s": self.series.step_s}
                yield self._anomaly("silence", first, last, 0, last - first, facts)

    def _anomaly(
        self, kind: str, first: int, last: int, line: int, weight: float, facts: dict[str, JSON]
    ) -> Anomaly:
        step = self.series.step_s
        since = float((self.series.first + first) * step)
        until = float((self.series.first + last + 1) * step)
        return Anomaly(kind, since, until, line, weight, facts)

    def _new(self) -> Iterator[Anomaly]:
        if self.start is None or self.end is None or not self.can_tell_bursts:
            return
        begun = self.start + (self.end - self.start) * NEW_AFTER
        for cluster in self._bad(WARNING):
            if cluster.first_time is not None and cluster.first_time >= begun:
                yield _about("new", cluster)

    def _rare(self) -> Iterator[Anomaly]:
        for cluster in self._bad(ERROR):
            if cluster.count <= RARE:
                yield _about("rare_error", cluster)

    def _bad(self, least: int) -> Iterator[Cluster]:
        return (c for c in self.clusters.ranked() if rank(c.level) >= least)


def bounds(counts: Sequence[int]) -> tuple[float, float]:
    """The usual count of a step, and the most that chance would make of it."""
    usual = float(median(counts))
    spread = MAD_TO_SIGMA * float(median(abs(n - usual) for n in counts))
    return usual, max(usual + SIGMAS * max(spread, usual**0.5, 1.0), FEWEST_IN_BURST)


def merged(counts: Sequence[int], factor: int) -> list[int]:
    """Counts of steps that are so many times as long."""
    return [sum(counts[n : n + factor]) for n in range(0, len(counts), factor)]


def runs(holds: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """First and last place of each stretch for which something holds."""
    begun: int | None = None
    for place, held in enumerate(holds):
        if held:
            begun = place if begun is None else begun
        elif begun is not None:
            yield begun, place - 1
            begun = None
    if begun is not None:
        yield begun, len(holds) - 1


def _about(kind: str, cluster: Cluster) -> Anomaly:
    facts: dict[str, JSON] = {
        "template": cluster.template,
        "level": cluster.level,
        "count": cluster.count,
        "example": cluster.example[:400],
    }
    since, until = cluster.first_time, cluster.last_time
    return Anomaly(kind, since, until, cluster.first_line, rank(cluster.level), facts)
