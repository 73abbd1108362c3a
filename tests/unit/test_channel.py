"""The channel to a child process, over a real socket within this process."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ai_stack.channel import MAX_BODY, MAX_HEADER, Channel, ChannelServer
from ai_stack.errors import AIStackError, NotFound, TooLarge, Unavailable
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.vectors import Point
from ai_stack.vectors.edge import EdgeVectors

Answer = tuple[Mapping[str, Any], bytes]


class Child:
    """Handlers as a child process has them."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.cancelled = False
        self.upserted: list[str] = []

    async def echo(self, header: Mapping[str, Any], body: bytes) -> Answer:
        return {"said": header["word"]}, body

    async def wait(self, header: Mapping[str, Any], body: bytes) -> Answer:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return {}, b""

    async def swell(self, header: Mapping[str, Any], body: bytes) -> Answer:
        return {}, bytes(MAX_BODY + 1)

    async def fail(self, header: Mapping[str, Any], body: bytes) -> Answer:
        raise NotFound("Not here.", fields={"what": "this"})

    async def upsert(self, header: Mapping[str, Any], body: bytes) -> Answer:
        self.upserted += header["ids"]
        return {}, b""


@pytest.fixture
async def child() -> Child:
    return Child()


@pytest.fixture
async def channel(child: Child, tmp_path: Path) -> AsyncIterator[Channel]:
    socket = tmp_path / "c.sock"
    names = ("echo", "wait", "swell", "fail", "upsert")
    server = ChannelServer({name: getattr(child, name) for name in names})
    serving = asyncio.create_task(server.serve(socket))
    while not socket.exists():
        assert not serving.done(), serving.result()
        await asyncio.sleep(0.01)
    made = Channel(socket, timeout_s=5)
    yield made
    await made.aclose()
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def test_calls_go_side_by_side(channel: Channel, child: Child) -> None:
    waiting = asyncio.create_task(channel.call("wait"))
    answer, body = await channel.call("echo", b"body", word="héllo")
    assert (answer["said"], body) == ("héllo", b"body")
    child.gate.set()
    await waiting


async def test_a_caller_that_leaves_ends_the_work(channel: Channel, child: Child) -> None:
    with pytest.raises(Unavailable):
        await channel.call("wait", timeout_s=0.05)
    await channel.call("echo", word="")
    assert child.cancelled


async def test_a_childs_refusal_keeps_its_class_and_words(channel: Channel) -> None:
    with pytest.raises(NotFound) as refusal:
        await channel.call("fail")
    assert (refusal.value.message, refusal.value.fields) == ("Not here.", {"what": "this"})
    with pytest.raises(AIStackError):
        await channel.call("echo")


async def test_what_is_too_large_harms_no_other_call(channel: Channel, child: Child) -> None:
    waiting = asyncio.create_task(channel.call("wait"))
    with pytest.raises(TooLarge):
        await channel.call("echo", word="\x01" * (MAX_HEADER // 6 + 1))
    with pytest.raises(TooLarge):
        await channel.call("swell")
    child.gate.set()
    assert (await waiting)[1] == b""


async def test_points_with_much_metadata_go_in_more_calls(channel: Channel, child: Child) -> None:
    model = EmbeddingModel("test", "weights", 1, 256)
    long = {"text": "x" * (1 << 20)}
    points = [Point(uuid4(), uuid4(), uuid4(), [1.0], long) for _ in range(70)]
    await EdgeVectors(channel).upsert(model, points)
    assert child.upserted == [str(p.chunk_id) for p in points]
