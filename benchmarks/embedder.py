"""The embedder's process measured from outside: python benchmarks/embedder.py [--threads N].

Prints passages/s of 202 tokens, query latency idle and during that, memory and start times.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from ai_stack.embedders.onnx import OnnxEmbedder

MODEL = "all-MiniLM-L6-v2"
WORDS = ["file", "line", "read", "open", "close", "block", "path", "name", "value", "list"]


def passages(count: int, tokens: int) -> list[str]:
    """Texts of exactly `tokens` tokens, two of them special: every word is one."""
    random = np.random.default_rng(7)
    return [" ".join(random.choice(WORDS, tokens - 2)) for _ in range(count)]


def pss_mib(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nPss:")[2].split()[0]) / 1024


async def started(
    folder: Path, threads: int
) -> tuple[subprocess.Popen[bytes], OnnxEmbedder, float]:
    socket = folder / "embedder.sock"
    socket.unlink(missing_ok=True)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "ai_stack.embedders.child", "--socket", str(socket)]
    options = ["--model", MODEL, "--threads", str(threads), "--cache", str(folder / "cache")]
    process = subprocess.Popen([*command, *options])
    while not socket.exists():
        await asyncio.sleep(0.005)
    embedder = await OnnxEmbedder.open(socket, MODEL)
    return process, embedder, time.perf_counter() - begin


async def latencies(embedder: OnnxEmbedder, until: Callable[[], bool]) -> str:
    took = []
    while not until():
        begin = time.perf_counter()
        await embedder.embed([f"how do I open file number {len(took)}"], "query")
        took.append(1000 * (time.perf_counter() - begin))
        await asyncio.sleep(0.01)
    p50, p99 = np.percentile(took, [50, 99])
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms ({len(took)} queries)"


async def timed(work: Awaitable[object], count: int) -> str:
    begin = time.perf_counter()
    await work
    return f"{count / (time.perf_counter() - begin):.1f}/s"


async def measure(threads: int, count: int, folder: Path) -> None:
    process, embedder, took_s = await started(folder, threads)
    print(f"first start, with the conversion   {took_s:.2f} s")
    await embedder.aclose()
    process.terminate()
    process.wait()
    process, embedder, took_s = await started(folder, threads)
    try:
        print(f"start                              {took_s:.2f} s")
        print(f"memory idle                        {pss_mib(process.pid):.0f} MiB PSS")
        await report(embedder, count)
        print(f"memory after                       {pss_mib(process.pid):.0f} MiB PSS")
    finally:
        await embedder.aclose()
        process.terminate()
        process.wait()


async def report(embedder: OnnxEmbedder, count: int) -> None:
    await embedder.embed(passages(8, 202), "passage")
    end = time.monotonic() + 3
    print(
        "query, idle                       ",
        await latencies(embedder, lambda: time.monotonic() > end),
    )
    for tokens, texts in ((202, count), (50, 2 * count), (12, 8 * count)):
        work = embedder.embed(passages(texts, tokens), "passage")
        print(f"passages of {tokens:3d} tokens             {await timed(work, texts)}")
    call = asyncio.create_task(timed(embedder.embed(passages(count, 202), "passage"), count))
    print("query, during an import           ", await latencies(embedder, call.done))
    print(f"passages of 202 tokens meanwhile   {await call}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--passages", type=int, default=400)
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="ai-stack-") as folder:
        asyncio.run(measure(given.threads, given.passages, Path(folder)))


if __name__ == "__main__":
    main()
