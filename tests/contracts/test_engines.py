"""What every engine does: in memory, the real llama.cpp, its host, and servers' dialects."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

import engines
from ai_stack.engines import Engine, open_engine
from ai_stack.engines.memory import NAME, MemoryEngine, Turn
from ai_stack.errors import ContextTooLong, InvalidRequest, ModelNotFound, Unsupported
from ai_stack.models.inference import GENERATION, Operation

KINDS = ("memory", "llama-cpp", "vllm", "openai", "hosted")
REAL = ("llama-cpp", "hosted")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "paint",
            "parameters": {
                "type": "object",
                "properties": {"colour": {"enum": ["red", "green"]}},
                "required": ["colour"],
            },
        },
    }
]
MESSAGES = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "What does the quick brown fox do? <|im_end|>"},
]


@dataclass
class Subject:
    """An engine and a look behind it: how many requests it works on at this moment."""

    kind: str
    engine: Engine
    busy: Callable[[], Awaitable[int]]
    memory: MemoryEngine

    def slowly(self) -> None:
        """Have the next answer take long; the real server's do by themselves."""
        self.memory.script.append(Turn("word " * 200, pause_s=0.05))


@pytest.fixture(scope="module", params=KINDS)
async def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Subject]:
    async with AsyncExitStack() as stack:
        yield await _subject(request.param, stack, tmp_path_factory.mktemp("engine"))


async def _subject(kind: str, stack: AsyncExitStack, folder: Path) -> Subject:
    memory = MemoryEngine()
    memory.served = [replace(memory.served[0], context_length=engines.CONTEXT)]

    async def working() -> int:
        return memory.working

    if kind == "memory":
        return Subject(kind, memory, working, memory)
    if kind in ("vllm", "openai"):
        server = engines.StandIn(dialect=kind, engine=memory)
        port = await stack.enter_async_context(server.serving())
        engine = open_engine(server.url.format(port))
        stack.push_async_callback(engine.aclose)
        return Subject(kind, engine, working, memory)
    url = stack.enter_context(engines.llama_cpp())
    address = url.replace("http", "llama-cpp")
    if kind == "hosted":
        address = await stack.enter_async_context(engines.Host(url).serving(folder))
    engine = open_engine(address)
    stack.push_async_callback(engine.aclose)
    return Subject(kind, engine, lambda: engines.busy_slots(url), memory)


async def test_models_tell_what_is_served(subject: Subject) -> None:
    (model,) = await subject.engine.models()
    assert model.id == NAME
    assert model.operations >= GENERATION
    assert model.context_length == (None if subject.kind == "openai" else engines.CONTEXT)
    assert model.revision or subject.kind == "openai"


async def test_models_are_the_same_each_time(subject: Subject) -> None:
    await engines.whole(await subject.engine.send(_chat(max_tokens=1)))
    assert await subject.engine.models() == await subject.engine.models()


async def test_a_chat_is_answered_whole(subject: Subject) -> None:
    reply = await subject.engine.send(_chat(max_tokens=4))
    assert reply.media_type == "application/json"
    answer = orjson.loads(await engines.whole(reply))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 4
    assert "cached_tokens" in answer["usage"]["prompt_tokens_details"]
    assert ("timings" in answer) == (subject.kind in REAL)


async def test_a_chat_is_streamed(subject: Subject) -> None:
    options = {"include_usage": True}
    reply = await subject.engine.send(_chat(max_tokens=4, stream=True, stream_options=options))
    assert reply.media_type == "text/event-stream"
    *chunks, done = engines.events(await engines.whole(reply))
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 4


async def test_streamed_and_whole_say_the_same(subject: Subject) -> None:
    fields = {"max_tokens": 8, "temperature": 0, "seed": 1}
    one = orjson.loads(await engines.whole(await subject.engine.send(_chat(**fields))))
    body = await engines.whole(await subject.engine.send(_chat(**fields, stream=True)))
    deltas = [c["choices"][0]["delta"] for c in engines.events(body)[:-1] if c["choices"]]
    text = "".join(delta.get("content") or "" for delta in deltas)
    assert _whole_signs(text) == _whole_signs(one["choices"][0]["message"]["content"])


@pytest.mark.parametrize("suffix", [None, "):\n"])
async def test_a_completion_is_answered_whole_and_streamed(
    subject: Subject, suffix: str | None
) -> None:
    fields = {"model": NAME, "prompt": "def add(first second third", "max_tokens": 3}
    fields |= {"temperature": 0} | ({} if suffix is None else {"suffix": suffix})
    reply = await subject.engine.send(engines.call("completion", **fields))
    answer = orjson.loads(await engines.whole(reply))
    assert answer["object"] == "text_completion"
    assert answer["usage"]["completion_tokens"] == 3
    reply = await subject.engine.send(engines.call("completion", **fields, stream=True))
    *chunks, done = engines.events(await engines.whole(reply))
    assert done == "[DONE]"
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    assert _whole_signs(text) == _whole_signs(answer["choices"][0]["text"])


async def test_tokens_are_those_that_the_engine_counts(subject: Subject) -> None:
    if subject.kind == "openai":
        with pytest.raises(Unsupported):
            await subject.engine.tokens(NAME, MESSAGES)
        return
    answer = await engines.whole(await subject.engine.send(_chat(max_tokens=1)))
    told = orjson.loads(answer)["usage"]["prompt_tokens"]
    assert len(await subject.engine.tokens(NAME, MESSAGES)) == told
    assert len(await subject.engine.tokens(NAME, {"messages": MESSAGES})) == told
    text = await subject.engine.tokens(NAME, "one two three")
    assert all(isinstance(token, int) for token in text)
    assert 3 <= len(text) <= 13


async def test_too_long_says_by_how_much(subject: Subject) -> None:
    messages = [{"role": "user", "content": "word " * 20000}]
    with pytest.raises(ContextTooLong) as raised:
        await subject.engine.send(_chat(messages=messages))
    found = re.search(r"(\d+) tokens and (\d+) fit.* (\d+) tokens too long", raised.value.message)
    assert found is not None
    asked, fit, over = map(int, found.groups())
    assert asked - fit == over >= 3000
    assert engines.CONTEXT - 1 <= fit <= engines.CONTEXT


async def test_what_is_not_served_is_not_found(subject: Subject) -> None:
    if subject.kind == "llama-cpp":
        pytest.skip("one llama.cpp server answers by whatever name")
    with pytest.raises(ModelNotFound):
        await subject.engine.send(_chat(model="other"))


async def test_closing_in_the_middle_frees_the_engine(subject: Subject) -> None:
    subject.slowly()
    reply = await subject.engine.send(_chat(max_tokens=8000, ignore_eos=True, stream=True))
    await anext(aiter(reply))
    assert await subject.busy() == 1
    await reply.aclose()
    assert await engines.settles(subject.busy)
    await engines.whole(await subject.engine.send(_chat(max_tokens=1)))


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_frees_the_engine(subject: Subject, stream: bool) -> None:
    subject.memory.script.append(Turn(delay_s=30))
    task = asyncio.create_task(
        subject.engine.send(_chat(max_tokens=8000, ignore_eos=True, stream=stream))
    )
    assert await engines.settles(subject.busy, 1)
    if task.done():  # it began to answer meanwhile
        await (await task).aclose()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert await engines.settles(subject.busy)
    subject.memory.script.clear()


async def test_many_at_once_do_not_mix(subject: Subject) -> None:
    async def one(number: int) -> tuple[int, int]:
        words = " ".join(["word"] * (number + 3))
        messages = [{"role": "user", "content": words}]
        call = _chat(messages=messages, max_tokens=2, stream=number % 2 == 0)
        body = await engines.whole(await subject.engine.send(call))
        if call.streamed:
            return number, body.count(b"[DONE]")
        return number, len(orjson.loads(body)["choices"])

    assert await asyncio.gather(*map(one, range(24))) == [(n, 1) for n in range(24)]


def _whole_signs(text: str) -> str:
    """Without halves of signs, which a random model says, and no two of its answers show alike."""
    return text.replace("\ufffd", "")


def _chat(**fields: object) -> engines.Call:
    return engines.call("chat", **{"model": NAME, "messages": MESSAGES, **fields})


async def test_llama_cpp_embeds_and_ranks() -> None:
    with engines.llama_cpp("embedder", slots=1) as url:
        engine = open_engine(url.replace("http", "llama-cpp"))
        (model,) = await engine.models()
        assert model.operations == {"embedding"}
        call = engines.call("embedding", model=NAME, input=["one", "two", "one"])
        rows = orjson.loads(await engines.whole(await engine.send(call)))["data"]
        assert rows[0]["embedding"] == pytest.approx(rows[2]["embedding"], abs=1e-5)
        assert rows[0]["embedding"] != pytest.approx(rows[1]["embedding"], abs=1e-2)
        with pytest.raises(ContextTooLong, match="512: it is") as error:
            await engine.send(engines.call("embedding", model=NAME, input="a b " * 900))
        assert [*error.value.fields] == ["input"]
        await engine.aclose()
    with engines.llama_cpp("reranker", slots=1) as url:
        engine = open_engine(url.replace("http", "llama-cpp"))
        assert (await engine.models())[0].operations == {"rerank"}
        call = engines.call("rerank", model=NAME, query="one", documents=["a", "b"])
        results = orjson.loads(await engines.whole(await engine.send(call)))["results"]
        assert {result["index"] for result in results} == {0, 1}
        await engine.aclose()


FIELDS = [
    {"n": 2, "max_tokens": 1},
    {"max_tokens": 40},
    {"max_tokens": 0},
    {"logprobs": True, "top_logprobs": 2, "max_tokens": 3},
    {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 400},
]


@pytest.mark.parametrize("fields", FIELDS)
async def test_what_llama_cpp_streams_is_put_together_as_it_answers_itself(
    chatty: str, fields: dict[str, object]
) -> None:
    call = _chat(temperature=0, seed=1, **fields)
    async with httpx.AsyncClient(timeout=60) as client:
        await client.post(f"{chatty}/v1/chat/completions", content=call.encoded)
        own = (await client.post(f"{chatty}/v1/chat/completions", content=call.encoded)).json()
    engine = open_engine(chatty.replace("http", "llama-cpp"))
    answer = orjson.loads(await engines.whole(await engine.send(call)))
    await engine.aclose()
    assert answer.keys() >= own.keys() - {"timings"}
    assert answer["usage"]["prompt_tokens"] == own["usage"]["prompt_tokens"]
    each = own["usage"]["completion_tokens"]  # it counts one choice of several
    assert answer["usage"]["completion_tokens"] == each * len(own["choices"])
    assert answer["object"] == own["object"]
    assert [_lasting(c) for c in answer["choices"]] == [_lasting(c) for c in own["choices"]]


def _lasting(choice: dict[str, Any]) -> object:
    """A choice without ids, which are drawn by lot, and halves of signs."""
    message = choice["message"]
    message["content"] = _whole_signs(message["content"] or "")
    for tool_call in choice["message"].get("tool_calls", ()):
        tool_call.pop("id")
    return choice


@pytest.fixture(scope="module")
def chatty() -> Iterator[str]:
    with engines.llama_cpp() as url:
        yield url


SEVERAL = [
    ("chat", {"messages": MESSAGES, "n": 2}, 2),
    ("completion", {"prompt": "The fox", "n": 2}, 2),
    ("completion", {"prompt": ["The fox", [4, 5]], "n": 2}, 4),
    ("completion", {"prompt": "The fox"}, 1),
]


@pytest.mark.parametrize(("operation", "fields", "choices"), SEVERAL)
async def test_several_answers_are_counted_together_and_each_begins_with_its_role(
    chatty: str, operation: Operation, fields: dict[str, object], choices: int
) -> None:
    fields = {"model": NAME, "max_tokens": 4, "ignore_eos": True, **fields}
    engine = open_engine(chatty.replace("http", "llama-cpp"))
    whole = orjson.loads(await engines.whole(await engine.send(engines.call(operation, **fields))))
    fields |= {"stream": True, "stream_options": {"include_usage": True}}
    body = await engines.whole(await engine.send(engines.call(operation, **fields)))
    *chunks, last, done = engines.events(body)
    await engine.aclose()
    assert (last["choices"], done) == ([], "[DONE]")
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 4 * choices
    assert last["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
    assert not any("usage" in chunk for chunk in chunks)
    told = [choice for chunk in chunks for choice in chunk["choices"]]
    assert {choice["index"] for choice in told} == set(range(choices))
    if operation == "chat":  # in their order, as the official client needs it
        roles = [(choice["index"], choice["delta"].get("role")) for choice in told]
        assert [one for one in roles if one[1]] == [(n, "assistant") for n in range(choices)]
        assert roles[0][0] == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_of_a_completion_have_a_form_of_their_own(chatty: str, stream: bool) -> None:
    fields = {"model": NAME, "prompt": "The fox", "max_tokens": 5, "seed": 3, "logprobs": 2}
    engine = open_engine(chatty.replace("http", "llama-cpp"))
    call = engines.call("completion", stream=stream, **fields)
    body = await engines.whole(await engine.send(call))
    await engine.aclose()
    told = engines.events(body)[:-1] if stream else [orjson.loads(body)]
    choices = [choice for one in told for choice in one["choices"] if choice["logprobs"]]
    assert choices
    for choice in choices:
        found = choice["logprobs"]
        assert "".join(found["tokens"]) == choice["text"]
        assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["text_offset"])
        assert all(type(p) is float and p <= 0 for p in found["token_logprobs"])
        assert all(1 <= len(likely) <= 3 for likely in found["top_logprobs"])
    offsets = [offset for choice in choices for offset in choice["logprobs"]["text_offset"]]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0


@pytest.mark.parametrize("fields", [{"echo": True}, {"best_of": 3}, {"best_of": 1, "n": 2}])
async def test_llama_cpp_is_not_asked_for_what_it_would_not_do(
    chatty: str, fields: dict[str, object]
) -> None:
    engine = open_engine(chatty.replace("http", "llama-cpp"))
    with pytest.raises(InvalidRequest, match="does not offer"):
        await engine.send(engines.call("completion", model=NAME, prompt="a", **fields))
    await engine.aclose()


async def test_leaving_is_noticed_beside_other_work(chatty: str) -> None:
    engine = open_engine(chatty.replace("http", "llama-cpp"))
    long = {"max_tokens": 8000, "ignore_eos": True}
    other = await engine.send(_chat(**long, stream=True))

    async def read() -> None:
        async for _ in other:
            pass

    reading = asyncio.create_task(read())
    leaving = asyncio.create_task(engine.send(_chat(**long)))
    assert await engines.settles(lambda: engines.busy_slots(chatty), 2)
    leaving.cancel()
    assert await engines.settles(lambda: engines.busy_slots(chatty), 1)
    reading.cancel()
    await other.aclose()
    await engine.aclose()
