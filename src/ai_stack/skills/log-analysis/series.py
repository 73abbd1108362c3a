"""Counts over time whose steps grow with the time they span, so that they never get many."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Series:
    """Counts for each key and step of `step_s` seconds; the step doubles when steps get too many.

    Memory is bounded by the number of keys, at most `most_keys`, times `most_steps`.
    """

    most_steps: int
    most_keys: int = 5_000
    step_s: int = 1
    first: int = 0
    last: int = -1
    counts: dict[Hashable, dict[int, int]] = field(default_factory=dict)

    def add(self, key: Hashable, seconds: float) -> None:
        step = int(seconds // self.step_s)
        if self.last < self.first:
            self.first = self.last = step
        elif not self.first <= step <= self.last:
            self.first, self.last = min(self.first, step), max(self.last, step)
            while self.last - self.first >= self.most_steps:
                self._double()
            step = int(seconds // self.step_s)
        kept = self.counts.get(key)
        if kept is None:
            if len(self.counts) >= self.most_keys:
                return
            kept = self.counts[key] = {}
        kept[step] = kept.get(step, 0) + 1

    def _double(self) -> None:
        self.step_s *= 2
        self.first, self.last = self.first // 2, self.last // 2
        for key, kept in self.counts.items():
            merged: dict[int, int] = {}
            for step, count in kept.items():
                merged[step // 2] = merged.get(step // 2, 0) + count
            self.counts[key] = merged

    def __len__(self) -> int:
        """Steps from the first to the last."""
        return self.last - self.first + 1

    @property
    def steps(self) -> range:
        return range(self.first, self.last + 1)

    def of(self, key: Hashable) -> list[int]:
        """One key's count in every step."""
        kept = self.counts.get(key, {})
        return [kept.get(step, 0) for step in self.steps]

    def starts(self) -> Iterator[float]:
        """Where each step begins, in seconds."""
        return (float(step * self.step_s) for step in self.steps)
