"""Ingestion and search with given vectors through the HTTP APIs, beside a Chroma server.

    python benchmarks/documents.py --chroma /path/to/bin/chroma [--passages 100000] [--json]

Vectors are a seeded mixture of Gaussians, normalised; a text is about 1,000 characters; ten
groups of equal size make the 10 % filter. Chroma comes from `pip install chromadb` in an
environment of its own.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from load import load
from rivals import Chroma, Stack, folder

WIDTH, CLUSTERS, GROUPS, TOP = 384, 200, 10, 10
BATCH, QUERIES = 100, 500
FILLER = "the quick brown fox jumps over the lazy dog and finds what it was looking for. " * 12

Rival = Stack | Chroma


class Corpus:
    """Passages, queries near them, and the exact answers."""

    def __init__(self, passages: int, seed: int = 7) -> None:
        rng = np.random.default_rng(seed)
        centres = rng.standard_normal((CLUSTERS, WIDTH), dtype=np.float32)
        self.vectors = self._around(rng, centres, passages)
        self.queries = self._around(rng, centres, QUERIES)
        self.groups = [int(g) for g in rng.integers(0, GROUPS, passages)]
        self.texts = [f"passage-{n} {FILLER}" for n in range(passages)]

    def _around(self, rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
        chosen = centres[rng.integers(0, CLUSTERS, count)]
        noise = rng.standard_normal((count, WIDTH), dtype=np.float32)
        made = chosen + 0.8 * noise
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)

    def nearest(self, group: int | None) -> list[set[str]]:
        rows = np.arange(len(self.texts))
        if group is not None:
            rows = rows[np.array(self.groups) == group]
        scores = self.queries @ self.vectors[rows].T
        best = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
        return [{self.texts[rows[i]] for i in row} for row in best]


def ingest(rival: Rival, corpus: Corpus, connections: int) -> float:
    messages = [
        rival.add(
            corpus.texts[i : i + BATCH], corpus.vectors[i : i + BATCH], corpus.groups[i : i + BATCH]
        )
        for i in range(0, len(corpus.texts), BATCH)
    ]
    done = load(rival.port, messages, count=len(messages), connections=connections)
    return done.per_second * BATCH


def search(
    rival: Rival, corpus: Corpus, group: int | None, count: int, rounds: int
) -> dict[str, float]:
    messages = [rival.search(query, group) for query in corpus.queries]
    load(rival.port, messages, count=QUERIES, connections=16)
    busy = [load(rival.port, messages, count=count, connections=16) for _ in range(rounds)]
    alone = load(rival.port, messages, count=QUERIES, connections=1)
    exact = corpus.nearest(group)
    hits = sum(
        len(wanted & set(rival.found(a))) for wanted, a in zip(exact, busy[0].answers, strict=True)
    )
    return {
        "per_second": float(np.median([b.per_second for b in busy])),
        "p50_alone_ms": alone.p50_ms,
        "recall": hits / (TOP * QUERIES),
    }


def memory(rival: Rival) -> dict[str, float]:
    """Proportional set size in MB of each process."""
    sizes = {}
    for name, pid in rival.pids().items():
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        line = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
        sizes[name] = int(line.split()[1]) / 1024
    return sizes


def measure(rival: Rival, corpus: Corpus, given: argparse.Namespace) -> dict[str, object]:
    rival.start()
    try:
        before = memory(rival)
        rate = ingest(rival, corpus, given.writers)
        time.sleep(given.settle)
        return {
            "ingest_per_second": rate,
            "plain": search(rival, corpus, None, given.count, given.rounds),
            "filtered": search(rival, corpus, 3, max(QUERIES, given.count // 4), given.rounds),
            "memory_mb_before": before,
            "memory_mb_after": memory(rival),
        }
    finally:
        rival.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chroma", type=Path, help="the chroma program; left out, no comparison")
    parser.add_argument("--vectors", default="qdrant-edge:", help="backend of the stack")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--count", type=int, default=4_000, help="searches a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writers", type=int, default=4, help="connections that ingest")
    parser.add_argument("--settle", type=float, default=10, help="seconds between the two parts")
    given = parser.parse_args()
    corpus = Corpus(given.passages)
    results = {}
    with folder() as home:
        results["stack"] = measure(Stack(home, given.vectors), corpus, given)
    if given.chroma:
        with folder() as home:
            results["chroma"] = measure(Chroma(home, given.chroma), corpus, given)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
