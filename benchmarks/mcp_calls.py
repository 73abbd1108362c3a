"""MCP's `tools/call` beside a bare server of the same SDK and FastMCP, with the same trivial tool.

    python benchmarks/mcp_calls.py [--fastmcp /path/to/python] [--seconds 6]

One run on two cores: the server under test alone on core 0, wrk on core 1. Each answers JSON to
requests of the newest protocol, without sessions. FastMCP comes from `pip install fastmcp` in an
environment of its own. Each contender is measured in turn, three rounds, the median counts.
"""

import argparse
import json
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from contenders import LOAD_CORE, PORTS, Server
from rivals import folder
from wrk import Load, load

HERE = Path(__file__).parent
PATH, CONNECTIONS, ROUNDS = "/mcp", 16, 3
TARGETS = {"bare SDK": 0.9, "bare SDK, MCPServer": 0.9, "FastMCP": 2.5}
VERSION = "2026-07-28"
BODY = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "echo",
        "arguments": {"text": "hello"},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": VERSION,
    "Mcp-Method": "tools/call",
    "Mcp-Name": "echo",
}


class Listening(Server):
    """A server that is ready when it listens: of its paths not one is common to all."""

    def _await(self, path: str, log: Path) -> None:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not listen: {log.read_text()[-2000:]}")


def contender(name: str, kind: str, python: str, port: int) -> Server:
    PORTS[name] = port
    return Listening(name, [python, str(HERE / "mcp_servers.py"), kind, "--port", str(port)])


def contenders(fastmcp: str | None) -> list[Server]:
    found = [
        contender("AI Stack", "ours", sys.executable, 28187),
        contender("bare SDK", "lowlevel", sys.executable, 28188),
        contender("bare SDK, MCPServer", "mcpserver", sys.executable, 28189),
    ]
    return found if fastmcp is None else [*found, contender("FastMCP", "fastmcp", fastmcp, 28190)]


@dataclass(frozen=True)
class Round:
    """What wrk saw, and the processor time that the server used for each call."""

    load: Load
    cpu_us: float


def measure(server: Server, seconds: int) -> Round:
    before = server.cpu_s()
    seen = _loaded(server, seconds)
    return Round(seen, (server.cpu_s() - before) / seen.requests * 1e6)


def _loaded(server: Server, seconds: int) -> Load:
    body = json.dumps(BODY, separators=(",", ":"))
    return load(
        server.port,
        body,
        connections=CONNECTIONS,
        seconds=seconds,
        core=LOAD_CORE,
        path=PATH,
        headers=HEADERS,
    )


def run(servers: Sequence[Server], seconds: int) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {server.name: [] for server in servers}
    with folder() as home, ExitStack() as exits:
        for server in servers:
            exits.enter_context(server.running(home))
            measure(server, 1)
        for _ in range(ROUNDS):
            for server in servers:
                found[server.name].append(measure(server, seconds))
    return found


def table(found: dict[str, list[Round]]) -> list[str]:
    rate = {n: statistics.median(one.load.per_second for one in all) for n, all in found.items()}
    cpu = {name: statistics.median(one.cpu_us for one in all) for name, all in found.items()}
    lines = [f"{'':22}{'calls/s':>10}{'cpu us':>9}{'p50 ms':>9}{'errors':>8}   ours by it"]
    for name, rounds in found.items():
        p50 = statistics.median(one.load.p50_ms for one in rounds)
        errors = sum(one.load.errors for one in rounds)
        line = f"{name:22}{rate[name]:10,.0f}{cpu[name]:9,.0f}{p50:9.2f}{errors:8}"
        if name in TARGETS:
            times = rate["AI Stack"] / rate[name]
            kept = "kept" if times >= TARGETS[name] else "MISSED"
            line += f"   {times:.2f} x, promised {TARGETS[name]} x: {kept}"
            line += f" (by processor time {cpu[name] / cpu['AI Stack']:.2f} x)"
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fastmcp", help="a Python that has fastmcp")
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    print("\n".join(table(run(contenders(options.fastmcp), options.seconds))))


if __name__ == "__main__":
    main()
