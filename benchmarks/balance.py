"""How connections spread over processes: a socket for each (SO_REUSEPORT), or one for all.

    python benchmarks/balance.py [--processes 4] [--connections 64] [--rounds 20]

Each round opens so many connections at once, as a pool of a client does, and shows the largest
share of one process. 1 / processes is even.
"""

import argparse
import os
import signal
import socket
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvloop

KINDS = ("a socket each", "one for all")


def listeners(kind: str, processes: int) -> list[socket.socket]:
    """What each process listens on, all on one port."""
    first = _listener(0, kind)
    port = first.getsockname()[1]
    others = range(processes - 1)
    return [first, *(_listener(port, kind) if kind == KINDS[0] else first for _ in others)]


def _listener(port: int, kind: str) -> socket.socket:
    made = socket.socket()
    if kind == KINDS[0]:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(2048)
    made.setblocking(False)
    return made


async def serve(listener: socket.socket, name: bytes) -> None:
    """Tell each connection which process has taken it."""
    import asyncio  # noqa: PLC0415 (in the child alone)

    class Told(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(name)  # type: ignore[attr-defined]

    server = await asyncio.get_running_loop().create_server(Told, sock=listener)
    await server.serve_forever()


@contextmanager
def processes(sockets: Sequence[socket.socket]) -> Iterator[None]:
    pids = []
    for number, listener in enumerate(sockets):
        if (pid := os.fork()) == 0:
            uvloop.run(serve(listener, b"%02d" % number))
            os._exit(0)
        pids.append(pid)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def largest_share(port: int, connections: int) -> float:
    opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    taken = Counter(connection.recv(2) for connection in opened)
    for connection in opened:
        connection.close()
    return max(taken.values()) / connections


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    for kind in KINDS:
        sockets = listeners(kind, given.processes)
        port = sockets[0].getsockname()[1]
        with processes(sockets):
            shares = [largest_share(port, given.connections) for _ in range(given.rounds)]
        sys.stdout.write(
            f"{kind:14} largest share {statistics.median(shares):.0%} in the median,"
            f" {max(shares):.0%} at worst\n"
        )


if __name__ == "__main__":
    main()
