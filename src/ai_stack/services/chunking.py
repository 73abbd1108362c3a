"""Cuts a text into passages that an embedding model takes whole; pure, no I/O.

The places come from the text's outline, the sizes from one tokenisation of the whole text, and
one pass of dynamic programming weighs the two: a good place against an even size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ai_stack.services.outline import Outline, Section, outline

Spans = npt.NDArray[np.int32]
Title = tuple[str, Spans | None]

HEADING_TOKENS, NAME_TOKENS, SEPARATOR = 32, 16, " > "
MARGIN = 2
FILL = 0.82
PER_CHUNK, UNEVEN = 0.6, 1.5
WORD, TOKEN = -0.6, -1.6
LONG_TOKEN, LONG_WEIGHT = 256, 64


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage: `text` is [start, end) of the whole text in code points.

    `heading` is the breadcrumb of the section that holds all of it; `tokens` is an upper
    estimate for `headed(chunk)`, special tokens not counted.
    """

    ordinal: int
    start: int
    end: int
    heading: str
    text: str
    tokens: int


def headed(chunk: Chunk) -> str:
    """The text to embed: the breadcrumb, then the passage."""
    return f"{chunk.heading}\n{chunk.text}" if chunk.heading else chunk.text


def chunk(
    text: str,
    spans: Spans,
    *,
    budget: int,
    title: str = "",
    title_spans: Spans | None = None,
    language: str | None = None,
    overlap: int = 0,
) -> list[Chunk]:
    """Passages in order that together hold all that is not blank, each within `budget` tokens.

    `spans` are the tokens of the whole text as code point offsets, shape (tokens, 2), and
    `title_spans` those of the title (without them a title costs a token a byte). `budget` is
    what the model takes without its special tokens and prefix. `overlap` repeats up to that
    many tokens of the passage before.
    """
    if not text.strip():
        return []
    found = outline(text, language)
    ruler = Ruler.of(spans, budget)
    names = Breadcrumbs(text, found.sections, ruler, title=(title, title_spans), budget=budget)
    plan = _plan(text, found, ruler, names, budget - MARGIN - overlap)
    return _chunks(text, plan, ruler, names, overlap)


@dataclass(frozen=True, slots=True)
class Ruler:
    """Measures in tokens; `before[i]` is the weight of the tokens ahead of token i.

    A token of many characters (a word unknown to the model) is laid out as several, so that no
    passage grows without bound.
    """

    starts: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]

    @classmethod
    def of(cls, spans: Spans, budget: int) -> "Ruler":
        starts = spans[:, 0].astype(np.int64)
        lengths = spans[:, 1] - spans[:, 0]
        pieces = np.maximum(lengths // LONG_TOKEN, 1)
        weights = np.ones(len(starts), dtype=np.int64)
        if len(starts) and int(pieces.max()) > 1:
            weight = max(1, min(LONG_WEIGHT, budget // 4))
            weights = np.repeat(np.where(pieces > 1, weight, 1), pieces)
            nth = np.arange(len(weights)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
            starts = np.repeat(starts, pieces) + nth * LONG_TOKEN
        return cls(starts, np.concatenate(([0], np.cumsum(weights))))

    def at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The tokens that begin before each offset."""
        return self.before[np.searchsorted(self.starts, positions)]

    def between(self, start: int, end: int) -> int:
        first, last = np.searchsorted(self.starts, (start, end))
        return int(self.before[last] - self.before[first])


class Breadcrumbs:
    """`Title > Section > Sub` of each section, of a few tokens at most.

    The section's own name comes first when room is short, then the title, then the nearest
    parents.
    """

    def __init__(
        self, text: str, sections: Sequence[Section], ruler: Ruler, *, title: Title, budget: int
    ) -> None:
        self.sections = sections
        self.most = min(HEADING_TOKENS, budget // 4)
        self._text, self._ruler = text, ruler
        self._longest = min(NAME_TOKENS, self.most)
        self._title = _short(*title, self._longest)
        self.starts = np.array([section.start for section in sections], dtype=np.int64)
        self.costs = self._upper_bounds()
        self._known: dict[int, tuple[str, int]] = {}

    def _upper_bounds(self) -> npt.NDArray[np.int64]:
        starts = np.array([section.name_start for section in self.sections], dtype=np.int64)
        ends = np.array([section.name_end for section in self.sections], dtype=np.int64)
        owns = np.minimum(self._ruler.at(ends) - self._ruler.at(starts), self._longest) + 2
        costs = [self._title[1]]
        for section, own in zip(self.sections, owns.tolist(), strict=True):
            costs.append(costs[section.parent + 1] + own)
        return np.minimum(np.array(costs, dtype=np.int64), self.most)

    def section_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The section that each offset stands in, -1 before the first."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def shared(self, start: int, end: int) -> int:
        """The deepest section that holds all of [start, end), -1 for the whole text."""
        first, last = self.section_at(np.array((start, end - 1), dtype=np.int64)).tolist()
        while first != last:
            if last > first:
                last = self.sections[last].parent
            else:
                first = self.sections[first].parent
        return int(first)

    def of(self, section: int) -> tuple[str, int]:
        """The breadcrumb of a section and its tokens."""
        if section not in self._known:
            self._known[section] = self._made(section)
        return self._known[section]

    def _made(self, section: int) -> tuple[str, int]:
        path = self._path(section)
        order = [*path[:1], self._title, *path[1:]]
        kept, cost = set[int](), 0
        for place, (name, tokens) in enumerate(order):
            if name and cost + tokens + (2 if kept else 0) <= self.most:
                cost += tokens + (2 if kept else 0)
                kept.add(place)
        title_place = 1 if path else 0
        shown = [title_place, *range(len(order) - 1, title_place, -1), *range(title_place)]
        return SEPARATOR.join(order[place][0] for place in shown if place in kept), cost

    def _path(self, section: int) -> list[tuple[str, int]]:
        """Names with their tokens, innermost first, without those that repeat the title."""
        names = []
        while section >= 0:
            name = self._name(self.sections[section])
            if name[0] != self._title[0]:
                names.append(name)
            section = self.sections[section].parent
        return names

    def _name(self, section: Section) -> tuple[str, int]:
        first, last = np.searchsorted(self._ruler.starts, (section.name_start, section.name_end))
        end = section.name_end
        if self._ruler.before[last] - self._ruler.before[first] > self._longest:
            cut = np.searchsorted(self._ruler.before, self._ruler.before[first] + self._longest)
            end = int(self._ruler.starts[min(cut, last - 1)])
        name = " ".join(self._text[section.name_start : end].split())
        return name, self._ruler.between(section.name_start, end)


def _short(title: str, spans: Spans | None, longest: int) -> tuple[str, int]:
    if spans is None:
        cut = title.encode(errors="replace")[:longest].decode(errors="ignore")
        return " ".join(cut.split()), len(cut.encode())
    end = int(spans[longest - 1, 1]) if len(spans) > longest else len(title)
    return " ".join(title[:end].split()), min(len(spans), longest)


def _plan(text: str, found: Outline, ruler: Ruler, names: Breadcrumbs, budget: int) -> list[int]:
    """The offsets at which passages begin, and the text's end."""
    positions, worths = _places(text, found, ruler, max(1, budget // 16), budget - names.most)
    sections = names.section_at(positions)
    limits = budget - names.costs[sections + 1]
    chosen = _cheapest(ruler.at(positions).tolist(), worths.tolist(), limits.tolist(), budget)
    return [int(positions[place]) for place in chosen]


def _places(
    text: str, found: Outline, ruler: Ruler, grain: int, longest: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The best place in each `grain` tokens, and more where two are too far apart."""
    positions = np.fromiter(found.cuts.keys(), np.int64, len(found.cuts))
    worths = np.fromiter(found.cuts.values(), np.float64, len(found.cuts))
    inside = (positions > 0) & (positions < len(text))
    positions, worths = _thinned(positions[inside], worths[inside], ruler, grain)
    marks = np.concatenate(([0], ruler.at(positions), [ruler.before[-1]]))
    if len(wide := np.flatnonzero(np.diff(marks) > longest)):
        more, less = _within(text, ruler, marks, wide)
        more, less = _thinned(more, less, ruler, grain)
        positions, worths = np.concatenate((positions, more)), np.concatenate((worths, less))
        order = np.argsort(positions, kind="stable")
        positions, worths = positions[order], worths[order]
    ends = np.concatenate(([0], positions, [len(text)]))
    return ends, np.concatenate(([0.0], worths, [0.0]))


def _thinned(
    positions: npt.NDArray[np.int64],
    worths: npt.NDArray[np.float64],
    ruler: Ruler,
    grain: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    buckets = ruler.at(positions) // grain
    order = np.lexsort((positions, -worths, buckets))
    first = np.ones(len(order), dtype=bool)
    first[1:] = np.diff(buckets[order]) > 0
    return positions[order][first], worths[order][first]


def _within(
    text: str, ruler: Ruler, marks: npt.NDArray[np.int64], wide: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Words and tokens as places, inside the stretches that have no better ones."""
    positions: list[int] = []
    for gap in wide.tolist():
        first, last = np.searchsorted(ruler.before, marks[gap : gap + 2])
        positions += ruler.starts[first + 1 : last].tolist()
    inner = [text[p - 1].isalnum() and text[p].isalnum() for p in positions]
    return np.array(positions, dtype=np.int64), np.where(inner, TOKEN, WORD)


def _cheapest(
    marks: Sequence[int], worths: Sequence[float], limits: Sequence[int], budget: int
) -> list[int]:
    """The places to cut at, first and last included, at the least cost in all."""
    price = _prices(budget)
    costs, back = [0.0], [0]
    low = 0
    for place in range(1, len(marks)):
        mark, best, where = marks[place], float("inf"), place - 1
        while mark - marks[low] > budget:
            low += 1
        for start in range(low, place):
            size = mark - marks[start]
            if size <= limits[start] and (cost := costs[start] + price[size]) < best:
                best, where = cost, start
        costs.append(best - worths[place])
        back.append(where)
    return _path_back(back)


def _prices(budget: int) -> list[float]:
    """What a passage of each size costs: uneven ones more."""
    target = max(1.0, FILL * budget)
    return [PER_CHUNK + UNEVEN * (size / target - 1) ** 2 for size in range(budget + 1)]


def _path_back(back: Sequence[int]) -> list[int]:
    path = [len(back) - 1]
    while path[-1] > 0:
        path.append(back[path[-1]])
    return path[::-1]


def _chunks(
    text: str, plan: Sequence[int], ruler: Ruler, names: Breadcrumbs, overlap: int
) -> list[Chunk]:
    chunks: list[Chunk] = []
    for start, end in pairwise(plan):
        begin, stop = _trimmed(text, _earlier(start, ruler, overlap), end)
        if begin < stop:
            heading, cost = names.of(names.shared(start, stop))
            tokens = ruler.between(begin, stop) + cost
            chunks.append(Chunk(len(chunks), begin, stop, heading, text[begin:stop], tokens))
    return chunks


def _earlier(start: int, ruler: Ruler, overlap: int) -> int:
    if not overlap or not start:
        return start
    first = int(np.searchsorted(ruler.starts, start))
    wanted = int(np.searchsorted(ruler.before, ruler.before[first] - overlap))
    return int(ruler.starts[wanted])


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without blank lines before and blanks after; the first line keeps its indentation."""
    piece = text[start:end]
    stop = start + len(piece.rstrip())
    ahead = len(piece) - len(piece.lstrip())
    line = piece.rfind("\n", 0, ahead) + 1
    at_line_start = line > 0 or start == 0 or text[start - 1] == "\n"
    return start + (line if at_line_start else ahead), stop
