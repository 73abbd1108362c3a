"""Passages: as the stack's search gives them, or found in texts by the words of a question."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .citations import Citation

LONGEST = 800
MOST = 64
K1, B = 1.2, 0.75
WORD = re.compile(r"\w+")
PARAGRAPH = re.compile(r"\n[ \t]*\n+")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")


def found_passages(results: Sequence[Mapping[str, Any]]) -> list[Citation]:
    """The passages of a search's results, the best first."""
    found = [
        (float(p["score"]), str(result["document"]["id"]), p)
        for result in results
        for p in result["passages"]
    ]
    found.sort(key=lambda one: -one[0])
    return [
        Citation(n, id, int(p["start"]), int(p["end"]), str(p["text"]), score)
        for n, (score, id, p) in enumerate(found[:MOST], 1)
    ]


def best_passages(question: str, texts: Mapping[str, str], limit: int) -> list[Citation]:
    """The passages of texts that share the question's words, by BM25 (k1 1.2, b 0.75)."""
    places = [(id, start, end) for id, text in texts.items() for start, end in cut(text)]
    counts = [Counter(_words(texts[id][start:end])) for id, start, end in places]
    scores = _bm25(set(_words(question)), counts)
    ranked = sorted(zip(scores, places, strict=True), key=lambda pair: -pair[0])
    return [
        Citation(n, id, start, end, texts[id][start:end], score)
        for n, (score, (id, start, end)) in enumerate(ranked[:limit], 1)
        if score > 0
    ]


def cut(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each paragraph, long ones at the ends of sentences."""
    for start, end in _between(text, PARAGRAPH, 0, len(text)):
        if end - start <= LONGEST:
            yield start, end
        else:
            yield from _joined(text, start, end)


def _joined(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Sentences together, as many as fit; one that is too long is cut."""
    begun: int | None = None
    last = start
    for first, until in _between(text, SENTENCE, start, end):
        if begun is not None and until - begun > LONGEST:
            yield begun, last
            begun = None
        begun = first if begun is None else begun
        while until - begun > LONGEST:
            yield begun, begun + LONGEST
            begun += LONGEST
        last = until
    if begun is not None and begun < last:
        yield begun, last


def _between(text: str, gap: re.Pattern[str], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The stretches between gaps that are more than white space."""
    at = start
    for found in gap.finditer(text, start, end):
        if text[at : found.start()].strip():
            yield at, found.start()
        at = found.end()
    if text[at:end].strip():
        yield at, end


def _bm25(question: set[str], counts: Sequence[Counter[str]]) -> list[float]:
    lengths = [sum(count.values()) for count in counts]
    usual = sum(lengths) / len(lengths) if lengths else 1.0
    having = {word: sum(word in count for count in counts) for word in question}

    def score(count: Counter[str], length: int) -> float:
        norm = K1 * (1 - B + B * length / usual)
        return sum(
            math.log(1 + (len(counts) - having[word] + 0.5) / (having[word] + 0.5))
            * (count[word] * (K1 + 1) / (count[word] + norm))
            for word in question
            if word in count
        )

    return [score(count, length) for count, length in zip(counts, lengths, strict=True)]


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]
