"""What strangers can send: little, and nothing that takes the room of those who are known."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from ai_stack import connections
from ai_stack.models.principals import EVERY_SCOPE, Principal
from ai_stack.models.trust import NewKey
from ai_stack.rest.gate import SMALL, TOGETHER
from ai_stack.settings import Settings
from ai_stack.stack import Stack
from gateways import gateway

MOST = 1 << 20
PUBLIC = ("/auth/login", "/auth/password", "/auth/device", "/auth/device/token")
PAGES = ("/login", "/device")


@pytest.fixture(scope="module")
async def opened(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    own = {"auth": "required", "request_max_bytes": MOST}
    async with gateway(memory_settings.model_copy(update=own)) as client:
        yield client


@pytest.fixture
async def known(opened: httpx.AsyncClient, stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    _, key = await stack.keys.create(Principal(scopes=EVERY_SCOPE), NewKey("k", EVERY_SCOPE))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=opened.base_url, headers=headers) as client:
        yield client


def json_of(size: int) -> bytes:
    return b'{"content": "%s"}' % (b"x " * (size // 2))


@pytest.mark.parametrize("path", PUBLIC + PAGES)
async def test_a_stranger_can_send_little(opened: httpx.AsyncClient, path: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(2 * SMALL // 4096):
            yield b"x" * 4096

    own = {"Content-Type": "application/json", "Origin": str(opened.base_url)}
    if "device" in path or path in PAGES:
        own["Content-Type"] = "application/x-www-form-urlencoded"
    for body in (b"x" * (SMALL + 1), pieces()):
        answer = await opened.post(path, content=body, headers=own)
        # A page's own bound is lower still.
        expected = (413, 422) if path in PAGES else (413,)
        assert answer.status_code in expected, answer.text


async def test_strangers_do_not_take_the_room_of_others(
    opened: httpx.AsyncClient, known: httpx.AsyncClient
) -> None:
    strangers = []
    for n in range(4 * TOGETHER):
        reader, writer = await asyncio.open_connection("127.0.0.1", opened.base_url.port)
        told = b"Transfer-Encoding: chunked" if n % 2 else b"Content-Length: %d" % MOST
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (PUBLIC[n % 4].encode(), told)
        writer.write(head + b"Content-Type: application/json\r\n\r\n")
        writer.write(b"%x\r\n" % MOST if n % 2 else b"")
        writer.write(b"x" * (MOST - 1))
        strangers.append((reader, writer))
    await asyncio.sleep(0.5)
    headers = {"Content-Type": "application/json"}
    for size in (100, MOST // 2):
        made = await known.post("/documents?wait=false", content=json_of(size), headers=headers)
        assert made.status_code == 202, made.text
    for _, writer in strangers:
        writer.transport.abort()


async def test_whoever_is_known_may_send_more(known: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    made = await known.post("/documents?wait=false", content=json_of(MOST // 2), headers=headers)
    assert made.status_code == 202, made.text
    more = await known.post("/documents?wait=false", content=json_of(2 * MOST), headers=headers)
    assert more.status_code == 413


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/auth/login", b'"code":"request_timeout"'),
        ("/documents", b'"code":"request_timeout"'),
        ("/v1/chat/completions", b'"code":"request_timeout"'),
        ("/mcp", b"did not come in time"),
    ],
)
async def test_a_body_that_stands_still_is_given_up(
    known: httpx.AsyncClient, path: str, code: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENT_S", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", known.base_url.port)
    key = known.headers["Authorization"].encode()
    writer.write(
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Length: 50\r\n"
        b"Content-Type: application/json\r\n\r\n{" % (path.encode(), key)
    )
    began = time.monotonic()
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert code in answer
    assert time.monotonic() - began >= 0.3
