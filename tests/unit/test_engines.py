"""The HTTP client of engines against servers of every mood, and what their refusals mean."""

import asyncio
import gc
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engines
from ai_stack.engines import open_engine
from ai_stack.engines.assembly import assembled
from ai_stack.engines.http import HIGH_WATER_BYTES, Answer, Client, Connection
from ai_stack.engines.llama_cpp import allowed
from ai_stack.engines.memory import MemoryEngine, Turn
from ai_stack.engines.origin import Origin
from ai_stack.engines.refusals import LONGEST_MESSAGE, refusal
from ai_stack.errors import (
    AIStackError,
    ContextTooLong,
    EngineBroken,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    ModelNotFound,
    SettingsError,
    TooBusy,
)

OK = engines.reply(200, {"fine": True})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def opened(
    *replies: list[bytes | float], closes: bool = False, **options: object
) -> AsyncIterator[tuple[Client, engines.RawServer]]:
    server = engines.RawServer(list(replies), closes)
    async with server.serving() as port:
        client = Client(Origin.of(f"http://127.0.0.1:{port}/v1"), **options)
        try:
            yield client, server
        finally:
            await client.aclose()
            await asyncio.sleep(0.02)


async def read(client: Client, body: bytes = b"{}") -> bytes:
    async with asyncio.timeout(5):
        return await (await client.post("/chat/completions", body)).read()


async def test_a_connection_is_used_again() -> None:
    async with opened([OK], [OK], [OK]) as (client, server):
        for _ in range(3):
            assert orjson.loads(await read(client)) == {"fine": True}
        assert server.connections == 1


async def test_a_request_has_the_head_that_it_needs_and_no_more() -> None:
    async with opened([OK], [OK]) as (client, server):
        await read(client, b'{"a": 1}')
        await (await client.get("/models")).read()
        (head, body), (got, _) = server.requests
        place = client.origin.authority
        assert body == b'{"a": 1}'
        assert head.decode().split("\r\n")[:-2] == [
            "POST /v1/chat/completions HTTP/1.1",
            f"Host: {place}",
            "User-Agent: ai-stack",
            "Accept-Encoding: identity",
            "Content-Type: application/json",
            "Content-Length: 8",
        ]
        assert got.startswith(b"GET /v1/models HTTP/1.1\r\n")
        assert b"Content-" not in got


async def test_a_large_body_arrives_whole() -> None:
    async with opened([OK]) as (client, server):
        body = bytes(range(256)) * 40_000
        await read(client, body)
        assert server.requests[0][1] == body


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced_once() -> None:
    async with opened([OK], [OK], closes=True) as (client, server):
        await read(client)
        connection = client._idle[0] if client._idle else None
        await read(client)
        assert server.connections == 2
        assert connection is None or connection.closed


@dataclass
class Hangs(engines.RawServer):
    """Answers the first request of all, and closes upon any other without a word."""

    async def answer(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        self.requests.append((head, body))
        if len(self.requests) > 1:
            raise ConnectionResetError
        writer.write(OK)


async def test_no_request_is_sent_a_third_time() -> None:
    server = Hangs()
    async with server.serving() as port:
        client = Client(Origin.of(f"http://127.0.0.1:{port}"))
        await read(client)
        with pytest.raises(EngineUnavailable):
            await read(client)
        assert len(server.requests) == 3  # the first, one on the kept connection, one on a new
        with pytest.raises(EngineUnavailable):
            await read(client)
        assert len(server.requests) == 4  # none was kept, so none is sent again
        await client.aclose()


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([CHUNKED + b"5\r\nhello\r\n", 0.01, b"6\r\n world\r\n0\r\n\r\n"], b"hello world"),
        ([HEAD + b"Content-Length: 5\r\n\r\nhe", 0.01, b"llo"], b"hello"),
        ([HEAD + b"Content-Length: 0\r\n\r\n"], b""),
        ([HEAD + b"\r\nuntil", 0.01, b" close"], b"until close"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], b'{"fine":true}'),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 0.01, OK], b'{"fine":true}'),
        ([OK[:9], 0.01, OK[9:40], 0.01, OK[40:]], b'{"fine":true}'),
        ([b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}"], b"{}"),
    ],
)
async def test_bodies_of_every_framing(pieces: list[bytes | float], body: bytes) -> None:
    async with opened(pieces, closes=True) as (client, _):
        assert await read(client) == body


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([b""], EngineUnavailable),
        ([b"HTTP/1.1 20"], EngineFailed),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], EngineFailed),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"], EngineFailed),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"], EngineFailed),
        ([b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], EngineFailed),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000], EngineFailed),
        ([HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab"], EngineFailed),
        ([HEAD + b"Content-Length: 9\r\n\r\nshort"], EngineBroken),
        ([CHUNKED + b"5\r\nhello\r\n"], EngineBroken),
        ([CHUNKED + b"5\r\nhello\r\n", 0.01, b"zz\r\n"], EngineBroken),
        ([CHUNKED + b"1\r\na\r\n0\r\n" + b"T: x\r\n" * 20_000], EngineBroken),
    ],
)
async def test_what_is_no_answer_is_said_to_be_none(
    pieces: list[bytes | float], error: type[AIStackError]
) -> None:
    async with opened(pieces, closes=True) as (client, _):
        with pytest.raises(error) as raised:
            await read(client)
        assert type(raised.value) is error


async def test_what_came_before_a_break_is_passed_on() -> None:
    async with opened([CHUNKED + b"5\r\nhello\r\n"], closes=True) as (client, _):
        answer = await client.post("/x", b"{}")
        came = b""
        with pytest.raises(EngineBroken):
            async for part in answer:
                came += part
        assert came == b"hello"


@pytest.mark.parametrize(
    "rest",
    [
        [engines.reply(200, {"fine": False})],
        [b"garbage"],
        [0.02, b"HTTP/1.1 200 OK\r\nContent-Le"],
        [0.02, b"\r\n"],
    ],
)
async def test_what_follows_an_answer_is_never_taken_for_the_next(
    rest: list[bytes | float],
) -> None:
    first = [OK + rest[0]] if isinstance(rest[0], bytes) else [OK, *rest]
    async with opened(first, [OK], [OK]) as (client, server):
        for _ in range(3):
            assert orjson.loads(await read(client)) == {"fine": True}
            await asyncio.sleep(0.05)
        assert server.connections == 2


@pytest.mark.parametrize(
    "endless",
    [
        [b"HTTP/1.1 200 OK\r\n", *[b"X: x\r\n" * 1000] * 20],
        [b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 10_000] * 20],
        [b"HTTP/1.1 100 Continue\r\n\r\n" * 1000] * 20,
        [CHUNKED + b"1\r\na\r\n0\r\n", *[b"X: x\r\n" * 1000] * 80],
        [CHUNKED + b"1;", *[b"x" * 10_000] * 20],
    ],
)
async def test_an_endless_head_is_cut_off(endless: list[bytes | float]) -> None:
    async with opened([*endless, 60.0]) as (client, server):
        with pytest.raises(EngineFailed, match="too large"):
            await read(client)
        assert await engines.settles(lambda: server.open)


async def test_a_reset_is_no_end_of_a_body() -> None:
    for lost, error in ((None, None), (OSError("reset"), EngineBroken)):
        connection = Connection(Client(Origin.of("http://engine")))
        connection.connection_made(Wire())
        head = connection.request(b"", b"")
        connection.data_received(HEAD + b"\r\nuntil close")
        connection.connection_lost(lost)
        answer = await head
        if error is None:
            assert await answer.read() == b"until close"
        else:
            with pytest.raises(error):
                await answer.read()


async def test_back_pressure_reaches_the_server() -> None:
    size = 64 << 20
    head = HEAD + b"Content-Length: %d\r\n\r\n" % size
    sent = 0

    class Pours(engines.RawServer):
        async def answer(self, writer: asyncio.StreamWriter, head_: bytes, body: bytes) -> None:
            nonlocal sent
            writer.write(head)
            while sent < size:
                writer.write(bytes(1 << 20))
                await writer.drain()
                sent += 1 << 20

    async with Pours().serving() as port:
        client = Client(Origin.of(f"http://127.0.0.1:{port}"))
        answer = await client.post("/x", b"{}")
        await asyncio.sleep(0.2)
        assert sent < size / 2
        assert answer._size <= 4 * HIGH_WATER_BYTES
        assert len(await answer.read()) == size
        await client.aclose()


async def test_a_body_larger_than_expected_is_dropped() -> None:
    async with opened([CHUNKED, *[b"400\r\n" + bytes(1024) + b"\r\n"] * 100]) as (client, server):
        with pytest.raises(EngineFailed, match="larger"):
            await (await client.post("/x", b"{}")).read(10_000)
        assert await engines.settles(lambda: server.open)


async def test_closing_or_cancelling_drops_the_connection() -> None:
    async with opened([CHUNKED + b"1\r\na\r\n", 60.0]) as (client, server):
        answer = await client.post("/x", b"{}")
        assert await anext(aiter(answer)) == b"a"
        await answer.aclose()
        await answer.aclose()
        assert await engines.settles(lambda: server.open)
        waiting = asyncio.create_task(client.post("/x", b"{}"))
        assert await engines.settles(lambda: server.open, 1)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert await engines.settles(lambda: server.open)
        assert not client._open


async def test_closing_the_client_ends_what_waits() -> None:
    async with opened() as (client, server):
        waiting = asyncio.create_task(client.post("/x", b"{}"))
        assert await engines.settles(lambda: server.open, 1)
        await client.aclose()
        with pytest.raises(EngineUnavailable):
            await waiting


async def test_connections_are_bounded() -> None:
    async with opened(connections=2) as (client, server):
        waiting = [asyncio.create_task(client.post("/x", b"{}")) for _ in range(2)]
        assert await engines.settles(lambda: server.open, 2)
        with pytest.raises(TooBusy):
            await client.post("/x", b"{}")
        for task in waiting:
            task.cancel()


async def test_nobody_there_and_nobody_who_speaks() -> None:
    client = Client(Origin.of(f"http://127.0.0.1:{engines.free_port()}"))
    with pytest.raises(EngineUnavailable):
        await client.get("/models")
    client = Client(Origin.of("http://" + "a" * 70 + ".example"))
    with pytest.raises(EngineUnavailable):
        await client.get("/models")
    async with opened() as (mute, _):  # its connection is made, its handshake never ends
        tls = Client(Origin.of(f"https://{mute.origin.authority}"), connect_timeout_s=0.2)
        with pytest.raises(EngineUnavailable):
            await tls.get("/models")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file, "-out", f"{file}.crt"]
    subprocess.run(["openssl", *asked.split(), *names], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


async def test_tls_is_spoken_with_servers_that_can_be_trusted(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = engines.RawServer([[OK], [HEAD + b"\r\nuntil close"]], tls=context)
    async with server.serving() as port:
        origin = Origin.of(f"https://:key@127.0.0.1:{port}")
        doubting = Client(origin)
        with pytest.raises(EngineUnavailable):
            await doubting.get("/models")
        trusting = Client(origin, tls=ssl.create_default_context(cafile=f"{certificate}.crt"))
        assert orjson.loads(await read(trusting)) == {"fine": True}
        assert b"Authorization: Bearer key\r\n" in server.requests[0][0]
        await trusting.aclose()
        await asyncio.sleep(0.05)
    gc.collect()


@dataclass
class Wire(asyncio.Transport):
    """The transport of a connection whose bytes are given by hand."""

    written: list[bytes] = field(default_factory=list)
    aborted: bool = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""


PARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.0 500 \r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 18446744073709551616\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
        b"X: \xff\x00y\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"hello",
        b"5\r\nhello\r\n",
        b"5;a=b\r\nhello\r\n",
        b"ffffffffffffffff1\r\n",
        b"0\r\n\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"data: {}\n\n",
    ]
)
STREAMS = st.lists(PARTS | st.binary(max_size=12), max_size=12).map(b"".join)


@given(
    STREAMS | STREAMS.map(lambda rest: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + rest),
    st.lists(st.integers(0, 200), max_size=6),
    st.sampled_from([None, OSError("reset")]),
)
def test_whatever_comes_ends_in_an_answer_or_one_of_our_errors(
    stream: bytes, cuts: list[int], lost: OSError | None
) -> None:
    asyncio.run(_fed(stream, sorted(cuts), lost))


async def _fed(stream: bytes, cuts: list[int], lost: OSError | None) -> None:
    client = Client(Origin.of("http://engine"))
    connection, wire = Connection(client), Wire()
    connection.connection_made(wire)
    head = connection.request(b"GET / HTTP/1.1\r\n\r\n", b"")
    reading = asyncio.create_task(_outcome(head))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if stream[start:end] and not wire.aborted:
            connection.data_received(stream[start:end])
            await asyncio.sleep(0)
    connection.connection_lost(None if wire.aborted else lost)
    async with asyncio.timeout(1):
        outcome = await reading
    assert isinstance(outcome, bytes | EngineFailed | EngineUnavailable)
    assert client._idle == []


async def _outcome(head: "asyncio.Future[Answer]") -> object:
    try:
        return await (await head).read()
    except (EngineFailed, EngineUnavailable) as error:
        return error


@given(STREAMS, st.lists(st.integers(1, 80), max_size=4))
def test_the_cuts_of_a_stream_change_nothing(body: bytes, cuts: list[int]) -> None:
    stream = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    cuts = sorted(min(cut, len(stream)) for cut in cuts)

    async def fed() -> bytes:
        connection = Connection(Client(Origin.of("http://engine")))
        connection.connection_made(Wire())
        head = connection.request(b"", b"")
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            if stream[start:end]:
                connection.data_received(stream[start:end])
        return await (await head).read()

    assert asyncio.run(fed()) == body


EVENTS = st.sampled_from(
    [
        b"data: [DONE]",
        b"data: null",
        b"data: {}",
        b"data: {bad",
        b'data: {"error": {"code": 400, "message": "no"}}',
        b'data: {"error": "no"}',
        b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}',
        b'data: {"choices": [{"index": 0, "delta": {"content": null}}]}',
        b'data: {"choices": [{"index": 0, "delta": "text", "logprobs": {"content": [1]}}]}',
        b'data: {"choices": [{"index": [], "delta": {}}]}',
        b'data: {"choices": {}}',
        b'data: {"choices": [5]}',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 9}]}}]}',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": 5}]}}]}',
        b'data: {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "x"}}]}}]}',
        b'data: {"choices": [{"delta": {"tool_calls": "many"}}]}',
        b'data: {"choices": ' + b"[" * 900 + b"]" * 900 + b"}",
        b": comment",
        b"\xff",
    ]
)


@given(st.lists(EVENTS, max_size=8).map(b"\n\n".join))
def test_malformed_events_are_assembled_or_refused(body: bytes) -> None:
    async def outcome() -> None:
        answer = Answer(Connection(Client(Origin.of("http://engine"))))
        answer.put(body + b"\n\n")
        answer.end()
        with suppress(AIStackError):
            orjson.loads(await engines.whole(await assembled(answer)))

    asyncio.run(outcome())


async def test_tool_calls_are_assembled_from_their_pieces() -> None:
    pieces = [
        {"role": "assistant", "content": None, "reasoning_content": "So "},
        {"reasoning_content": "be it."},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]},
    ]
    answer = Answer(Connection(Client(Origin.of("http://engine"))))
    for piece in pieces:
        chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": piece}]}
        answer.put(b"data: %s\n\n" % orjson.dumps(chunk))
    answer.put(b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\ndata: [DONE]\n\n')
    whole = orjson.loads(await engines.whole(await assembled(answer)))
    message = whole["choices"][0]["message"]
    assert message["reasoning_content"] == "So be it."
    assert message["content"] is None
    calls = [(call["id"], call["function"]) for call in message["tool_calls"]]
    assert calls == [
        ("a", {"name": "f", "arguments": '{"x":1}'}),
        ("b", {"name": "g", "arguments": "{}"}),
    ]
    assert whole["usage"] == {"total_tokens": 3}


TOO_LONG = [
    (
        "This model's maximum context length is 4096 tokens. However, you requested 10778 tokens "
        "(2778 in the messages, 8000 in the completion). Please reduce the length.",
        (10778, 4096),
    ),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum context "
        "length is 4096 tokens and your request has 2778 input tokens (8000 > 4096 - 2778).",
        (10778, 4096),
    ),
    (
        "This model's maximum context length is 1536 tokens. However, your request has 4176 input "
        "tokens. Please reduce the length of the input messages.",
        (4176, 1536),
    ),
    (
        "This model's maximum context length is 64 tokens. However, you requested 8 output tokens "
        "and your prompt contains at least 57 input tokens, for a total of at least 65 tokens.",
        (65, 64),
    ),
    (
        "You passed 4097 input tokens and requested 20 output tokens. However, the model's context "
        "length is only 4096 tokens, resulting in a maximum input length of 4076 tokens.",
        (4117, 4096),
    ),
    (
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        (5000, 4096),
    ),
    (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "10000 tokens. Please reduce the length of the messages.",
        (10000, 8192),
    ),
]


@pytest.mark.parametrize(("message", "numbers"), TOO_LONG)
def test_too_long_is_read_from_an_engine_s_own_words(
    message: str, numbers: tuple[int, int]
) -> None:
    for told in ({"error": {"message": message, "code": 400}}, {"message": message}):
        error = refusal(400, orjson.dumps(told))
        asked, context = numbers
        assert isinstance(error, ContextTooLong)
        assert f"{asked} tokens" in error.message
        assert f"{asked - context} tokens too long" in error.message


def test_too_long_without_numbers_is_too_long_all_the_same() -> None:
    told = {"error": {"message": "Too long.", "code": "context_length_exceeded"}}
    assert isinstance(refusal(400, orjson.dumps(told)), ContextTooLong)
    characters = "You passed 9000000 input characters and requested 0 output tokens. However, the "
    characters += "model's context length is only 4096 tokens."
    error = refusal(400, orjson.dumps({"error": {"message": characters}}))
    assert isinstance(error, ContextTooLong)
    assert "4096" in error.message


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": {"message": "Bad."}}, InvalidRequest),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "too large"}]}, InvalidRequest),
        (404, {"error": {"message": "The model `x` does not exist."}}, ModelNotFound),
        (404, {"detail": "Not Found"}, InvalidRequest),
        (501, {"error": {"message": "--embeddings"}}, InvalidRequest),
        (401, {"error": {"message": "Incorrect API key: sk-123"}}, EngineFailed),
        (403, {}, EngineFailed),
        (302, {}, EngineFailed),
        (500, {"error": {"message": "CUDA error in /build/x.cu"}}, EngineFailed),
        (429, {}, TooBusy),
        (503, {"error": {"message": "Loading model"}}, EngineUnavailable),
        (502, {}, EngineUnavailable),
    ],
)
def test_a_status_means_one_of_our_errors(
    status: int, body: object, error: type[AIStackError]
) -> None:
    found = refusal(status, orjson.dumps(body))
    assert type(found) is error
    assert "sk-123" not in found.message
    assert "/build" not in found.message


@given(st.binary() | st.text().map(lambda text: orjson.dumps({"error": {"message": text}})))
def test_a_refusal_is_bounded_and_printable(body: bytes) -> None:
    message = refusal(400, body).message
    assert 0 < len(message) <= LONGEST_MESSAGE
    assert message.isprintable()


def test_a_refusal_tells_no_places() -> None:
    told = "No /home/ai/models/x.gguf at http://10.0.0.7:8080/v1 or 10.0.0.7:80; see /messages/0."
    message = refusal(400, orjson.dumps({"error": told})).message
    assert message == "No … at … or …; see /messages/0."


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://:secret@api.example/v1", "https://api.example:443/v1"),
        ("https://secret@api.example", "https://api.example:443"),
        ("http://[::1]:9/v1/", "http://[::1]:9/v1"),
        ("llama-cpp://127.0.0.1", "http://127.0.0.1:8080"),
        ("vllm://gpu", "http://gpu:8000"),
        ("vllm+https://gpu", "https://gpu:443"),
    ],
)
async def test_an_engine_s_name_has_no_secret(url: str, name: str) -> None:
    engine = open_engine(url)
    assert engine.name == name
    await engine.aclose()


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://x:99999", "vllm:", "llama-cpp:", "http://:k%0Ay@x"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        open_engine(url)


async def test_redirects_and_pages_are_no_answers() -> None:
    page = engines.reply(200, b"<html>", "text/html")
    moved = engines.reply(307, b"", "text/html", "Location: http://127.0.0.1:1/v1")
    async with opened([page], [moved], [page]) as (client, server):
        engine = open_engine(f"http://{client.origin.authority}/v1")
        for _ in range(2):
            with pytest.raises(EngineFailed):
                await engine.send(engines.call("chat", model="x", messages=[]))
        with pytest.raises(EngineFailed):
            await engine.models()
        assert len(server.requests) == 3
        await engine.aclose()


async def test_what_an_openai_server_tells_of_its_models() -> None:
    listed = [
        {"id": "a", "context_window": 131072, "created": 5, "owned_by": "them"},
        {"id": "text-embed-3", "context_length": True},
        {"id": "bge-reranker"},
        {"id": 7},
        "junk",
    ]
    async with opened([engines.reply(200, {"data": listed})]) as (client, _):
        engine = open_engine(f"http://{client.origin.authority}/v1")
        first, second, third = await engine.models()
        assert (first.context_length, first.created, first.owned_by) == (131072, 5, "them")
        assert second.operations == {"embedding"}
        assert second.context_length is None
        assert third.operations == {"rerank"}
        await engine.aclose()


LOADING = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"


async def test_a_child_that_is_gone_is_asked_for_anew(tmp_path: Path) -> None:
    first = engines.RawServer([[LOADING]] * 2)
    stream = CHUNKED + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    second = engines.RawServer([[stream], [stream], [LOADING]])
    tokens = b'{"tokens": [7, 8]}'
    third = engines.RawServer([[HEAD + b"Content-Length: 18\r\n\r\n" + tokens]])
    async with first.serving() as one, second.serving() as two, third.serving() as three:
        host = engines.Host(f"http://127.0.0.1:{one}")
        async with host.serving(tmp_path) as url:
            engine = open_engine(url)
            call = engines.call("chat", model="memory", messages=[], stream=True)
            with pytest.raises(EngineUnavailable):
                await engine.send(call)
            host.url = f"http://127.0.0.1:{two}"
            await engines.whole(await engine.send(call))
            await engines.whole(await engine.send(call))
            assert len(host.served) == 2
            host.url = f"http://127.0.0.1:{three}"
            assert await engine.tokens("memory", "a b") == [7, 8]
            await engine.aclose()


@pytest.mark.parametrize(
    ("told", "raised"),
    [
        (AIStackError("It needs 9 GB and 4 GB are free."), EngineFailed),
        (InvalidRequest("This is no GGUF file."), InvalidRequest),
        (EngineUnavailable("The server did not start."), EngineUnavailable),
    ],
)
async def test_a_host_s_own_words_are_told(
    told: AIStackError, raised: type[AIStackError], tmp_path: Path
) -> None:
    host = engines.Host("", refusal=told)
    async with host.serving(tmp_path) as url:
        engine = open_engine(url)
        (model,) = await engine.models()
        assert not model.loaded
        with pytest.raises(raised) as error:
            await engine.send(engines.call("chat", model="memory", messages=[]))
        assert error.value.message == told.message
        await engine.aclose()
    engine = open_engine(url)
    with pytest.raises(EngineUnavailable):
        await engine.models()
    await engine.aclose()


async def test_the_engine_in_memory_follows_its_script() -> None:
    engine = MemoryEngine(
        script=[Turn(error=TooBusy()), Turn("a b c", breaks_after=2), Turn(parts=[b"raw"])]
    )
    call = engines.call("chat", model="memory", messages=[], stream=True)
    with pytest.raises(TooBusy):
        await engine.send(call)
    reply = await engine.send(call)
    with pytest.raises(EngineBroken):
        await engines.whole(reply)
    assert await engines.whole(await engine.send(call)) == b"raw"
    assert engine.working == 0
    assert len(engine.calls) == 3


def test_llama_cpp_is_left_with_the_one_function_that_is_chosen() -> None:
    """It ignores a choice that is an object."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    choice = {"type": "function", "function": {"name": "b"}}
    assert allowed({"tools": tools, "tool_choice": choice}) == {
        "tools": tools[1:],
        "tool_choice": "required",
    }
    several = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "a"}}]}
    assert allowed({"tools": tools, "tool_choice": {"allowed_tools": several}}) == {
        "tools": tools[:1],
        "tool_choice": "auto",
    }
    for untouched in ({"tools": tools, "tool_choice": "auto"}, {"tools": tools}, {}):
        assert allowed(untouched) is untouched
    for choice in ({"type": "function", "function": "b"}, {"function": {"name": "c"}}):
        with pytest.raises(InvalidRequest, match="among tools"):
            allowed({"tools": tools, "tool_choice": choice})


async def test_vllm_keeps_the_prompts_of_two_salts_apart() -> None:
    stand_in = engines.StandIn(dialect="vllm")
    async with stand_in.serving() as port:
        vllm = open_engine(f"vllm://127.0.0.1:{port}")
        for salt in ("a1", "b2", ""):
            asked = engines.call(
                "chat", model="memory", messages=[{"role": "user", "content": "Hi"}]
            )
            asked.salt = salt
            await engines.whole(await vllm.send(asked))
        await vllm.aclose()
    salts = [orjson.loads(body).get("cache_salt") for _, body in stand_in.requests]
    assert salts == ["a1", "b2", None]
