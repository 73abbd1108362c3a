"""Tokens a second of llama.cpp with a tiny model, straight and through the gateway.

llama.cpp has the core of the load to itself; the gateway and the readers share the other. Each
round asks both in turn, for the same text to prompts that neither has seen: how many chunks its
tokens make decides how long it takes.
"""

import statistics
import sys
from pathlib import Path

from contenders import LOAD_CORE, PORTS, SERVER_CORE, Gateway, Server, held_to
from rivals import Stack
from streams import tokens_per_second
from wrk import body

sys.path.insert(1, str(Path(__file__).parents[1] / "tests"))
from gguf import write_chat

MODEL, SLOTS, TOKENS, CONTEXT = "tiny", 8, 1500, 2048
STREAMS = (1, SLOTS)
PAIRS = 7  # at least: each is short, and the machine is never quite still


def llama(folder: Path) -> Server:
    """The server out of the wheel; its model says gibberish until it is told to stop."""
    model = write_chat(folder / "tiny.gguf")
    command = [sys.executable, "-m", "ai_stack.supervisor.llama_server", "-m", str(model)]
    command += ["--alias", MODEL, "--port", str(PORTS["llama.cpp"]), "-t", "1", "--jinja"]
    command += ["-np", str(SLOTS), "-c", str(CONTEXT * SLOTS), "-lv", "0", "--metrics", "--slots"]
    made = Server("llama.cpp", command, LOAD_CORE)
    made.environment = {**made.environment, "OMP_WAIT_POLICY": "passive"}
    return made


def measure(stack: Stack, folder: Path, rounds: int) -> dict[str, float]:
    """The gateway's tokens/s as a share of llama.cpp's own, for one stream and for eight."""
    url = f"llama-cpp://127.0.0.1:{PORTS['llama.cpp']}"
    gateway = Gateway(stack, AI_STACK_ENGINES=url)
    with (
        llama(folder).running(folder, "/health") as direct,
        gateway.running(folder),
        held_to(SERVER_CORE),
    ):
        pairs = {
            n: [_pair(direct, gateway, n, k % 2) for k in range(max(PAIRS, rounds))]
            for n in STREAMS
        }
    return {f"{n} at once, of {_direct(p):,.0f} tokens/s": _share(p) for n, p in pairs.items()}


def _direct(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(direct for direct, _ in pairs)


def _share(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(through for _, through in pairs) / _direct(pairs)


def _pair(direct: Server, gateway: Server, streams: int, swapped: int) -> tuple[float, float]:
    """Tokens a second straight and through the gateway, measured in this order or the other."""
    bodies = [_body() for _ in range(streams)]
    if swapped:
        through = tokens_per_second(gateway.port, bodies)
        return tokens_per_second(direct.port, bodies), through
    return tokens_per_second(direct.port, bodies), tokens_per_second(gateway.port, bodies)


def _body() -> str:
    asked = body(MODEL, unique=False, stream=True)
    usage = '"stream_options":{"include_usage":true}'
    return asked.replace('"max_tokens":64', f'"max_tokens":{TOKENS},{usage}')
