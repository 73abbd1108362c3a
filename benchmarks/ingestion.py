"""Ingestion of real pages end to end, beside the embedder's own throughput in the same run.

    python benchmarks/ingestion.py FOLDER [--files 160] [--rounds 4]

The pages come in equal portions. Each is imported through `ai-stack import`, timed from the
first byte until searches find all of it; then the same passages go to the same embedder process
alone. The share is what parsing, chunking, PostgreSQL, the vector index and the gateway leave of
the embedder's pace. `processor_share` is the same by the processor time of the stack's processes,
which other work on the machine changes less.
"""

import argparse
import asyncio
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ai_stack.embedders.onnx import OnnxEmbedder
from rivals import Stack, folder, processor_s

PASSAGES = (
    "SELECT c.heading, c.text FROM aidb.chunks c JOIN aidb.document_keys k USING (document_id)"
    " WHERE k.key ^@ %s ORDER BY random()"
)
MB = 1 << 20


@dataclass(frozen=True)
class Portion:
    """What one portion of the pages took, end to end and by the embedder alone.

    `cpu_s` are seconds of processor time of all processes of the stack.
    """

    passages: int
    end_to_end_s: float
    embedder_s: float
    end_to_end_cpu_s: float
    embedder_cpu_s: float

    @property
    def share(self) -> float:
        return self.embedder_s / self.end_to_end_s


def sample(source: Path, target: Path, count: int, portions: int) -> list[Path]:
    """Every n-th file of the source, so that all its parts are there, dealt out to folders."""
    files = sorted(p for p in source.rglob("*.html") if p.is_file())
    for number, path in enumerate(files[:: max(1, len(files) // count)][:count]):
        place = target / str(number % portions) / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return sorted(target.iterdir())


def passages(runtime: str, prefix: str) -> list[str]:
    url = f"postgresql://aidb_owner@/aidb?host={runtime}"
    with psycopg.connect(url) as connection:
        rows = connection.execute(PASSAGES, [prefix]).fetchall()
    return [f"{heading}\n{text}" if heading else text for heading, text in rows]


async def alone(runtime: str, texts: list[str]) -> float:
    """Seconds of the embedder for texts when it has nothing else to do."""
    embedder = await OnnxEmbedder.open(Path(runtime) / "embedder.sock", "all-MiniLM-L6-v2")
    started = time.perf_counter()
    await embedder.embed(texts, "passage")
    seconds = time.perf_counter() - started
    await embedder.aclose()
    return seconds


def measure(stack: Stack, pages: Path) -> Portion:
    supervisor = stack.supervisor()
    prefix = f"{pages.name}/"
    before, started = processor_s(supervisor), time.perf_counter()
    stack.run("import", str(pages), "--prefix", prefix, "--json")
    seconds, used = time.perf_counter() - started, processor_s(supervisor) - before
    texts = passages(stack.runtime(), prefix)
    before = processor_s(supervisor)
    embedder_s = asyncio.run(alone(stack.runtime(), texts))
    return Portion(len(texts), seconds, embedder_s, used, processor_s(supervisor) - before)


def resident(stack: Stack) -> float:
    """MB that the gateway holds."""
    status = Path(f"/proc/{stack.pids()['aidb-mcp']}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / MB


def summary(portions: list[Portion]) -> dict[str, object]:
    count = sum(p.passages for p in portions)
    end_to_end, embedder = (
        sum(p.end_to_end_s for p in portions),
        sum(p.embedder_s for p in portions),
    )
    processor_s = sum(p.end_to_end_cpu_s for p in portions)
    return {
        "passages": count,
        "end_to_end_per_second": round(count / end_to_end, 1),
        "embedder_per_second": round(count / embedder, 1),
        "share": round(embedder / end_to_end, 3),
        "shares": [round(p.share, 3) for p in portions],
        "processor_share": round(sum(p.embedder_cpu_s for p in portions) / processor_s, 3),
        "processor_ms_a_passage": round(1000 * processor_s / count, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="a folder of HTML pages")
    parser.add_argument("--files", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--vectors", default="qdrant-edge:", help="backend of the stack")
    given = parser.parse_args()
    with folder() as home:
        pages = sample(given.source, home / "pages", given.files, given.rounds)
        stack = Stack(home, given.vectors)
        stack.start()
        try:
            before = resident(stack)
            portions = [measure(stack, one) for one in pages]
            memory = [round(before, 1), round(resident(stack), 1)]
        finally:
            stack.stop()
    print(json.dumps({**summary(portions), "gateway_mb_before_after": memory}, indent=2))


if __name__ == "__main__":
    main()
