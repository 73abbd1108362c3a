"""What was recorded: trends of measures, when they reach their end, and outages of the gateway."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import StatisticsError, correlation, fmean, linear_regression

from ai_stack.skill import JSON, SkillFailed

from .samples import GATEWAY, Sample, at

MAX_SAMPLES = 500_000
MAX_LINE_BYTES = 64 << 10
MOST_MEASURES = 100
HOUR_S = 3600.0
FEWEST = 10
EXPLAINED = 0.5
FARTHEST_H = 24 * 365 * 5
WELL = ("healthy", "degraded")
ENDING = ("disk_free_bytes:", "memory_available_bytes")


def read_samples(files: Sequence[Path], notes: list[str]) -> list[Sample]:
    """The samples of all files in the order of their times; SkillFailed where there are none."""
    found: list[Sample] = []
    strange = 0
    for line in _lines(files):
        one = _sample(line)
        strange += one is None
        if one is not None:
            found.append(one)
        if len(found) >= MAX_SAMPLES:
            notes.append(f"Only the first {MAX_SAMPLES:,} samples were read.")
            break
    if not found:
        raise SkillFailed("The files hold no samples as `watch` writes them.")
    if strange:
        notes.append(f"{strange:,} lines are no samples and were left out.")
    return sorted(found, key=lambda one: one.time)


@dataclass(frozen=True, slots=True)
class History:
    """Samples in the order of their times."""

    samples: Sequence[Sample]

    def shown(self) -> dict[str, JSON]:
        outages = self.outages()
        return {
            "samples": len(self.samples),
            "first": at(self.samples[0].time),
            "last": at(self.samples[-1].time),
            "measures": {name: _trend(*self._of(name)) for name in self._names()},
            "forecasts": [*self.forecasts()],
            "outages": [*outages],
            "available_percent": self._available(),
        }

    @property
    def summary(self) -> str:
        span_h = (self.samples[-1].time - self.samples[0].time) / HOUR_S
        lines = [f"{len(self.samples):,} samples over {span_h:.2f} hours."]
        available = self._available()
        if available is not None:
            lines.append(f"The gateway was well in {available:g} % of them.")
        lines += [str(one["told"]) for one in self.forecasts()[:3]]
        return "\n".join(lines)

    def forecasts(self) -> list[dict[str, JSON]]:
        """Measures whose clear trend goes to nothing, the soonest first."""
        found: list[tuple[float, str]] = []
        for name in self._names():
            if name.startswith(ENDING):
                hours = _hours_left(*self._of(name))
                if hours is not None and hours <= FARTHEST_H:
                    found.append((hours, name))
        return [_forecast(name, hours) for hours, name in sorted(found)]

    def outages(self) -> list[dict[str, JSON]]:
        """Spans in which the gateway did not answer well, with the word that it was in."""
        found: list[dict[str, JSON]] = []
        begun: Sample | None = None
        for one in self.samples:
            word = one.states.get(GATEWAY)
            ill = word is not None and word not in WELL
            if ill and begun is None:
                begun = one
            elif begun is not None and not ill:
                found.append(_outage(begun, one.time, is_over=True))
                begun = None
        if begun is not None:
            found.append(_outage(begun, self.samples[-1].time, is_over=False))
        return found

    def _available(self) -> float | None:
        words = [one.states[GATEWAY] for one in self.samples if GATEWAY in one.states]
        if not words:
            return None
        return round(sum(word in WELL for word in words) / len(words) * 100, 2)

    def _names(self) -> list[str]:
        names = dict.fromkeys(name for one in self.samples for name in one.measures)
        return [*names][:MOST_MEASURES]

    def _of(self, name: str) -> tuple[list[float], list[float]]:
        kept = [one for one in self.samples if name in one.measures]
        return [one.time for one in kept], [one.measures[name] for one in kept]


def _forecast(name: str, hours: float) -> dict[str, JSON]:
    told = f"{name} is used up in {hours:.1f} hours at this rate."
    return {"measure": name, "hours": round(hours, 2), "told": told}


def _outage(begun: Sample, end: float, *, is_over: bool) -> dict[str, JSON]:
    return {
        "from": at(begun.time),
        "to": at(end),
        "seconds": round(end - begun.time, 1),
        "state": begun.states[GATEWAY],
        "is_over": is_over,
    }


def _trend(times: Sequence[float], values: Sequence[float]) -> dict[str, JSON]:
    slope = _slope(times, values)
    return {
        "first": values[0],
        "last": values[-1],
        "min": min(values),
        "max": max(values),
        "mean": round(fmean(values), 3),
        "slope_per_hour": None if slope is None else round(slope * HOUR_S, 4),
    }


def _slope(times: Sequence[float], values: Sequence[float]) -> float | None:
    """Of each second, by least squares; None for too few, or for all at one time."""
    if len(values) < 3:
        return None
    try:
        return linear_regression([t - times[0] for t in times], values).slope
    except StatisticsError:
        return None


def _hours_left(times: Sequence[float], values: Sequence[float]) -> float | None:
    """Until the line through the values is at zero; None where there is no clear line down."""
    slope = _slope(times, values)
    if slope is None or slope >= 0 or len(values) < FEWEST:
        return None
    if correlation(times, values) ** 2 < EXPLAINED:
        return None
    return values[-1] / -slope / HOUR_S


def _lines(files: Sequence[Path]) -> Iterator[bytes]:
    for path in files:
        try:
            with path.open("rb") as file:
                while line := file.readline(MAX_LINE_BYTES):
                    if line.strip():
                        yield line
        except OSError:
            raise SkillFailed("A file of samples cannot be read.") from None


def _sample(line: bytes) -> Sample | None:
    try:
        found = json.loads(line)
        time = datetime.fromisoformat(found["at"]).timestamp()
        measures = {str(k): float(v) for k, v in found["measures"].items()}
        states = {str(k)[:200]: str(v)[:200] for k, v in found["states"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    finite = {name[:200]: value for name, value in measures.items() if math.isfinite(value)}
    return Sample(time, finite, states)
