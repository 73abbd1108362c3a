"""Time to first token over several real llama.cpp servers: by known prompts, and by turns.

    python benchmarks/affinity.py [--servers 3] [--prefixes 12] [--asked 4] [--json]

Each prefix of about 1,500 tokens is asked several times with other endings, in shuffled order;
what a server has read of a prompt already, it need not read again. By turns, the next request goes
to the next server, as any common load balancer has it.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

sys.path.insert(1, str(Path(__file__).parents[1] / "tests"))
from ai_stack.caches.memory import MemoryCache
from ai_stack.engines import open_engine
from ai_stack.models.inference import Priority
from ai_stack.models.principals import Principal
from ai_stack.services.inference import Inference
from ai_stack.services.inference.answers import Answers
from ai_stack.services.inference.fleet import Fleet, Member, Pool
from ai_stack.services.inference.journal import Journal
from ai_stack.services.inference.routing import Router
from gguf import Shape, write_chat

MODEL, SLOTS, CONTEXT, PREFIX_TOKENS = "tiny", 2, 4096, 1500
SHAPE = Shape(context=CONTEXT, layers=6, width=384, heads=6, kv_heads=6, inner=1024)
FIRST_PORT = 28_300
PROMISE = 0.5
WORDS = [f"word{n}" for n in range(40)]


@dataclass
class Turns(Router):
    """Every engine in its turn."""

    asked: int = 0

    async def acquire(
        self,
        pool: Pool,
        blocks: Sequence[bytes],
        priority: Priority,
        tried: frozenset[Member] = frozenset(),
    ) -> Member:
        self.asked += 1
        chosen = pool.members[self.asked % len(pool.members)]
        return self._given(chosen, pool, ())


@dataclass
class Seen:
    """Milliseconds to the first token, and the prompt tokens that were read already."""

    first_ms: list[float] = field(default_factory=list)
    cached: int = 0
    prompt: int = 0


@contextmanager
def server(model: Path, port: int) -> Iterator[str]:
    """A llama.cpp server out of the wheel, on one thread."""
    command = [sys.executable, "-m", "ai_stack.supervisor.llama_server", "-m", str(model)]
    command += ["--alias", MODEL, "--host", "127.0.0.1", "--port", str(port), "-t", "1", "--jinja"]
    command += ["-np", str(SLOTS), "-c", str(CONTEXT * SLOTS), "-lv", "0", "--slots"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(f"http://127.0.0.1:{port}/health", process)
        yield f"llama-cpp://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _await(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
        assert process.poll() is None, "llama.cpp did not start"
    raise TimeoutError(url)


def prompts(prefixes: int, asked: int, seed: int) -> list[list[dict[str, str]]]:
    """Conversations: `asked` endings to each of so many beginnings, shuffled."""
    dice = random.Random(seed)
    found = []
    for _ in range(prefixes):
        said = " ".join(dice.choices(WORDS, k=PREFIX_TOKENS // 6))
        system = {"role": "system", "content": said}
        found += [[system, {"role": "user", "content": f"turn {n}"}] for n in range(asked)]
    dice.shuffle(found)
    return found


async def measure(urls: Sequence[str], router: Router, asked: list[list[dict[str, str]]]) -> Seen:
    """Each conversation's first token, one after the other."""
    engines = [open_engine(url) for url in urls]
    inference = Inference(Fleet(engines), router, Answers(MemoryCache(), 0), Journal(_forget), 120)
    seen = Seen()
    for messages in asked:
        began = time.perf_counter()
        chunks = inference.stream("chat", {"messages": messages, "max_tokens": 4}, Principal())
        async for chunk in chunks:
            if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                seen.first_ms.append((time.perf_counter() - began) * 1000)
                break
        async for chunk in chunks:
            if usage := chunk.get("usage"):
                seen.prompt += usage["prompt_tokens"]
                seen.cached += usage["prompt_tokens_details"]["cached_tokens"]
    for engine in engines:
        await engine.aclose()
    return seen


async def _forget(records: object) -> None:
    """The log is not measured here."""


def run(given: argparse.Namespace) -> dict[str, Seen]:
    """Both ways, each on servers of its own that know nothing."""
    asked = prompts(given.prefixes, given.asked, given.seed)
    routers: dict[str, Router] = {"by turns": Turns(64), "by known prompts": Router(64)}
    seen = {}
    with tempfile.TemporaryDirectory() as folder:
        model = write_chat(Path(folder) / "tiny.gguf", shape=SHAPE)
        for name, router in routers.items():
            with ExitStack() as exits:
                ports = range(FIRST_PORT, FIRST_PORT + given.servers)
                urls = [exits.enter_context(server(model, port)) for port in ports]
                seen[name] = asyncio.run(measure(urls, router, asked))
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=int, default=3, help="llama.cpp servers")
    parser.add_argument("--prefixes", type=int, default=12, help="distinct beginnings")
    parser.add_argument("--asked", type=int, default=4, help="requests with each beginning")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    seen = run(given)
    told = {
        name: {
            "median_ms": round(statistics.median(s.first_ms), 1),
            "mean_ms": round(statistics.mean(s.first_ms), 1),
            "known": round(s.cached / max(1, s.prompt), 3),
            "prompt_tokens": s.prompt // max(1, len(s.first_ms)),
        }
        for name, s in seen.items()
    }
    ratios = {
        kind: told["by known prompts"][kind] / told["by turns"][kind]
        for kind in ("median_ms", "mean_ms")
    }
    if given.json:
        print(json.dumps({"seen": told, "ratios": ratios}, indent=2))
        return 0
    for name, figures in told.items():
        print(f"{name:18}", "  ".join(f"{key} {value:>8}" for key, value in figures.items()))
    for kind, ratio in ratios.items():
        verdict = "kept" if ratio <= PROMISE else "MISSED"
        print(f"{kind} of the first token: {ratio:.2f} × (at most {PROMISE}): {verdict}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
