"""Downloads from a server of this machine, as an attacker would arrange them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ai_stack.errors import InvalidRequest, NotFound, TooLarge, Unavailable, Unsupported
from ai_stack.services import downloads
from ai_stack.services.downloads import download

PAGES = {
    "/a.md": "200 OK\r\nContent-Type: text/markdown; charset=utf-8\r\n"
    "Content-Length: 4\r\n\r\n# A\n",
    "/hop": "302 Found\r\nLocation: /a.md\r\nContent-Length: 0\r\n\r\n",
    "/loop": "302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n",
    "/file": "302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "/nowhere": "302 Found\r\nContent-Length: 0\r\n\r\n",
    "/gone": "404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "/busy": "503 Busy\r\nContent-Length: 0\r\n\r\n",
    "/large": "200 OK\r\nContent-Length: 99999999\r\n\r\nx",
    "/endless": "200 OK\r\n\r\n" + "x" * 200_000,
    "/zipped": "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
    "/cut": "200 OK\r\nContent-Length: 100\r\n\r\nx",
}


class Canary:
    """A server on loopback that counts who comes."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        self.asked.append(path)
        writer.write(f"HTTP/1.1 {PAGES.get(path, 'nonsense')}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    made = Canary()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()
    await server.wait_closed()


async def fetched(url: str, *, allow_private: bool = True, max_bytes: int = 100_000) -> bytes:
    async with download(url, max_bytes=max_bytes, allow_private=allow_private) as answer:
        return b"".join([piece async for piece in answer.pieces])


async def test_a_file_and_a_redirect_to_it(canary: Canary) -> None:
    assert await fetched(canary.url + "/hop") == b"# A\n"
    async with download(canary.url + "/a.md", max_bytes=10, allow_private=True) as answer:
        assert (answer.media_type, answer.charset) == ("text/markdown", "utf-8")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/loop", InvalidRequest),
        ("/file", InvalidRequest),
        ("/nowhere", InvalidRequest),
        ("/nonsense", InvalidRequest),
        ("/gone", NotFound),
        ("/busy", Unavailable),
        ("/large", TooLarge),
        ("/endless", TooLarge),
        ("/zipped", Unsupported),
        ("/cut", InvalidRequest),
    ],
)
async def test_answers_that_are_refused(canary: Canary, path: str, error: type) -> None:
    with pytest.raises(error):
        await fetched(canary.url + path)


async def test_nobody_comes_to_a_private_address(canary: Canary) -> None:
    port = canary.url.rpartition(":")[2]
    names = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "2130706433")
    for name in (*names, "0x7f.1", "017700000001", "localhost.", "LOCALHOST"):
        with pytest.raises((InvalidRequest, Unavailable)):
            await fetched(f"http://{name}:{port}/a.md", allow_private=False)
    assert canary.asked == []


async def test_a_name_that_changes_its_address(
    canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public when it is looked at, private when it is connected to: looked at once only."""
    loop = asyncio.get_running_loop()
    port = int(canary.url.rpartition(":")[2])
    answers = iter(["93.184.216.34", "127.0.0.1"])
    connected: list[str] = []

    async def rebinding(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", (next(answers), port))]

    async def connect(self: object, host: str, *_: object) -> None:
        connected.append(host)
        raise downloads.httpcore.ConnectError

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    monkeypatch.setattr(downloads.httpcore.AnyIOBackend, "connect_tcp", connect)
    with pytest.raises(Unavailable):
        await fetched(f"http://rebinding.example:{port}/a.md", allow_private=False)
    assert connected == ["93.184.216.34"]
