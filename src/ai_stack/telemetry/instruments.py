"""What can be counted: counters, gauges and histograms, by labels of bounded number.

They belong to one event loop and take no locks: an observation costs a third of a microsecond,
where those of the client library take two.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[str, ...]
# (suffix of the name, values of the labels, upper bound of a bucket, value)
Sample: TypeAlias = tuple[str, Labels, float | None, float]

MOST = 1000
OTHER = "other"
ENDLESS = float("inf")

BRIEF = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
WORK = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Instrument:
    """A name, what it means, and the names of its labels; `most` cells, the rest is `other`."""

    kind: ClassVar[Kind]

    def __init__(self, name: str, about: str, *labels: str, most: int = MOST) -> None:
        self.name, self.about, self.labels, self.most = name, about, labels, most

    def _key(self, labels: Labels, known: int) -> Labels:
        """The labels of a new cell, folded where there are too many already."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}.")
        return labels if known < self.most else (OTHER,) * len(labels)

    def samples(self) -> Iterator[Sample]:
        """What it holds now."""
        raise NotImplementedError


class Counter(Instrument):
    """Only grows, unless what it repeats begins anew."""

    kind: ClassVar[Kind] = "counter"

    def __init__(self, name: str, about: str, *labels: str, most: int = MOST) -> None:
        super().__init__(name, about, *labels, most=most)
        self.cells: dict[Labels, float] = {} if labels else {(): 0.0}

    def add(self, *labels: str, by: float = 1) -> None:
        try:
            self.cells[labels] += by
        except KeyError:
            key = self._key(labels, len(self.cells))
            self.cells[key] = self.cells.get(key, 0.0) + by

    def set(self, value: float, *labels: str) -> None:
        """Repeat what was counted elsewhere."""
        key = labels if labels in self.cells else self._key(labels, len(self.cells))
        self.cells[key] = value

    def clear(self) -> None:
        """Nothing is known any more."""
        self.cells.clear()

    def samples(self) -> Iterator[Sample]:
        for labels, value in self.cells.items():
            yield "", labels, None, value


class Gauge(Counter):
    """Goes up and down."""

    kind: ClassVar[Kind] = "gauge"

    def __init__(self, name: str, about: str, *labels: str, most: int = MOST) -> None:
        super().__init__(name, about, *labels, most=most)
        self.cells.clear()


class Cell:
    """The observations of one set of labels."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Histogram(Instrument):
    """How values are spread over buckets; `bounds` are the upper ends of these."""

    kind: ClassVar[Kind] = "histogram"

    def __init__(
        self,
        name: str,
        about: str,
        *labels: str,
        bounds: tuple[float, ...] = REQUEST,
        most: int = MOST,
    ) -> None:
        super().__init__(name, about, *labels, most=most)
        self.bounds = bounds
        self.cells: dict[Labels, Cell] = {} if labels else {(): Cell(bounds)}

    def at(self, *labels: str) -> Cell:
        """The cell of these labels, for those who keep it."""
        cell = self.cells.get(labels)
        if cell is None:
            key = self._key(labels, len(self.cells))
            cell = self.cells.setdefault(key, Cell(self.bounds))
        return cell

    def observe(self, value: float, *labels: str) -> None:
        self.at(*labels).observe(value)

    def samples(self) -> Iterator[Sample]:
        for labels, cell in self.cells.items():
            reached = 0
            for bound, count in zip((*cell.bounds, ENDLESS), cell.counts, strict=True):
                reached += count
                yield "_bucket", labels, bound, reached
            yield "_sum", labels, None, cell.total
            yield "_count", labels, None, reached


def by_name(instruments: Iterable[Instrument]) -> dict[str, Instrument]:
    """Instruments by the names of all their series."""
    found: dict[str, Instrument] = {}
    for one in instruments:
        suffixes = ("_bucket", "_sum", "_count") if isinstance(one, Histogram) else ("",)
        found.update((one.name + suffix, one) for suffix in suffixes)
    return found
