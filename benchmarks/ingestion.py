"""Ingestion of real pages end to end, beside the embedder's own throughput in the same run.

    python benchmarks/ingestion.py FOLDER [--files 150]

Imports files of a folder through `ai-stack import` into an empty stack and counts passages a
second from the first byte until searches find all of them. Then the same passages go to the
same embedder process alone. The quotient is what parsing, chunking, PostgreSQL, the vector
index and the gateway leave of the embedder's pace.
"""

import argparse
import asyncio
import json
import shutil
import time
from pathlib import Path

import psycopg

from ai_stack.embedders.onnx import OnnxEmbedder
from rivals import Stack, folder

PASSAGES = "SELECT heading, text FROM aidb.chunks ORDER BY random()"
ALONE = 1500


def sample(source: Path, target: Path, count: int) -> None:
    """Every n-th file of the source, so that all its parts are there."""
    files = sorted(p for p in source.rglob("*.html") if p.is_file())
    for path in files[:: max(1, len(files) // count)][:count]:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def passages(runtime: str) -> list[str]:
    url = f"postgresql://aidb_owner@/aidb?host={runtime}"
    with psycopg.connect(url) as connection:
        rows = connection.execute(PASSAGES).fetchall()
    return [f"{heading}\n{text}" if heading else text for heading, text in rows]


async def alone(runtime: str, texts: list[str]) -> float:
    """Passages a second of the embedder when it has nothing else to do."""
    embedder = await OnnxEmbedder.open(Path(runtime) / "embedder.sock", "all-MiniLM-L6-v2")
    started = time.perf_counter()
    await embedder.embed(texts, "passage")
    seconds = time.perf_counter() - started
    await embedder.aclose()
    return len(texts) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder of HTML pages")
    parser.add_argument("--files", type=int, default=150)
    given = parser.parse_args()
    with folder() as home:
        sample(given.source, home / "pages", given.files)
        stack = Stack(home, "qdrant-edge:")
        stack.start()
        try:
            started = time.perf_counter()
            stack.run("import", str(home / "pages"), "--json")
            seconds = time.perf_counter() - started
            runtime = stack.runtime()
            texts = passages(runtime)
            rate = asyncio.run(alone(runtime, texts[:ALONE]))
        finally:
            stack.stop()
    end_to_end = len(texts) / seconds
    result = {"passages": len(texts), "end_to_end_per_second": end_to_end}
    print(json.dumps({**result, "embedder_per_second": rate, "share": end_to_end / rate}, indent=2))


if __name__ == "__main__":
    main()
