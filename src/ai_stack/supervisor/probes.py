"""How one sees that a part is ready; each probe asks once and raises NotReady."""

import asyncio
import ssl
import struct
from pathlib import Path

from ai_stack.channel import Channel
from ai_stack.errors import AIStackError
from ai_stack.supervisor import NotReady, Probe

PROBE_S = 2.0
POSTGRES_PROTOCOL_3 = 196_608
CANNOT_CONNECT_NOW = b"C57P03\0"


def postgres(socket: Path, user: str) -> Probe:
    """As pg_isready asks: any answer but "starting up" or "shutting down" is an answer."""
    parameters = b"user\0%b\0database\0postgres\0\0" % user.encode()
    startup = struct.pack("!II", len(parameters) + 8, POSTGRES_PROTOCOL_3) + parameters

    async def ask() -> None:
        answer = await _exchange(socket, startup)
        if not answer or CANNOT_CONNECT_NOW in answer:
            raise NotReady("it recovers its data")

    return ask


def redis(socket: Path) -> Probe:
    async def ask() -> None:
        answer = await _exchange(socket, b"PING\r\n")
        if not answer.startswith(b"+PONG"):
            raise NotReady(answer.decode(errors="replace").strip() or "no answer")

    return ask


def channel(socket: Path) -> Probe:
    """A `ping` call of ai_stack.channel."""

    async def ask() -> None:
        client = Channel(socket, timeout_s=PROBE_S)
        try:
            await client.call("ping")
        except AIStackError as error:
            raise NotReady(error.message) from error
        finally:
            await client.aclose()

    return ask


def http(host: str, port: int, path: str, tls: ssl.SSLContext | None = None) -> Probe:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()

    async def ask() -> None:
        status, body = await fetch(host, port, request, tls)
        if status != 200:
            raise NotReady(f"{path} answers {status}: {body[:200].decode(errors='replace')}")

    return ask


async def fetch(
    host: str, port: int, request: bytes, tls: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Status and body of one request whose connection the server closes."""
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
            try:
                writer.write(request)
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise NotReady("it does not listen yet") from error
    words = head.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else 0), body


def touched(file: Path) -> Probe:
    """The part makes this file itself, after the supervisor removed the last run's."""

    async def ask() -> None:
        if not file.exists():
            raise NotReady("it starts up")

    return ask


async def wait_until(probe: Probe, pause_s: float = 0.02) -> None:
    """Ask until the part is ready, less and less often."""
    while True:
        try:
            return await probe()
        except NotReady:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.3, 0.25)


async def _exchange(socket: Path, request: bytes) -> bytes:
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(request)
                return await reader.read(4096)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise NotReady("it does not listen yet") from error
