"""Row 13: the official OpenAI client against real llama.cpp servers, each answer validated."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import orjson
from openai import AsyncOpenAI
from pydantic import BaseModel

from reliability.engines import Gateway, before
from reliability.llamas import CALLER, CONTEXT, RANKER, SAID, SPEAKER, TINY, listens, llamas
from reliability.openai_client import client_of, numbers
from reliability.verdicts import Measured, Row, Trial

EMBEDDER = "all-MiniLM-L6-v2"
HELLO: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FLAT: Any = {"type": "function", "strict": True, **WEATHER["function"]}
VERDICT: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"sure": {"type": "boolean"}, "city": {"enum": ["Paris", "Rome"]}},
            "required": ["sure", "city"],
            "additionalProperties": False,
        },
    },
}

Case = Callable[[AsyncOpenAI], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__.replace("_", " ")] = function
    return function


@case
async def models(client: AsyncOpenAI) -> None:
    listed = {model.id for model in (await client.models.list()).data}
    assert {TINY, SPEAKER, CALLER} <= listed, listed
    assert (await client.models.retrieve(TINY)).id == TINY


@case
async def chat(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=SPEAKER, messages=HELLO, temperature=0)
    assert answer.choices[0].message.content == SAID
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@case
async def chat_again_from_the_cache(client: AsyncOpenAI) -> None:
    raw = client.chat.completions.with_raw_response
    told: Any = {"model": SPEAKER, "messages": HELLO, "temperature": 0, "seed": 11}
    first, second = await raw.create(**told), await raw.create(**told)
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("MISS", "HIT")
    assert first.content == second.content


@case
async def streamed_chat(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=SPEAKER, messages=HELLO, temperature=0, stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == SAID
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


@case
async def streamed_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=SPEAKER,
        messages=HELLO,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


@case
async def streamed_again_from_the_cache(client: AsyncOpenAI) -> None:
    told: Any = {"model": SPEAKER, "messages": HELLO, "seed": 12, "stream": True}
    texts = []
    for _ in range(2):
        stream = await client.chat.completions.create(**told)
        chunks = [chunk async for chunk in stream]
        texts.append("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
    assert texts == [SAID, SAID]


@case
async def parts_of_a_message(client: AsyncOpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
        {"role": "assistant", "content": "Here."},
        {"role": "user", "content": "And now?", "name": "ann"},
    ]
    answer = await client.chat.completions.create(model=SPEAKER, messages=messages, temperature=0)
    assert answer.choices[0].message.content == SAID


@case
async def tools(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=CALLER, messages=HELLO, tools=[WEATHER], temperature=0
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    _check_call(choice.message.tool_calls[0])


@case
async def streamed_tools(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=CALLER, messages=HELLO, tools=[WEATHER], temperature=0, stream=True
    )
    name, arguments, ends = "", "", []
    async for chunk in stream:
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            assert call.index == 0
            name += (call.function and call.function.name) or ""
            arguments += (call.function and call.function.arguments) or ""
        ends += [c.finish_reason for c in chunk.choices if c.finish_reason]
    assert (name, orjson.loads(arguments)) == ("get_weather", {"city": "Paris"})
    assert ends == ["tool_calls"]


@case
async def forced_tool(client: AsyncOpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    for wanted in ("required", choice):
        answer = await client.chat.completions.create(
            model=CALLER, messages=HELLO, tools=[WEATHER], tool_choice=wanted, temperature=0
        )
        assert answer.choices[0].message.tool_calls
        _check_call(answer.choices[0].message.tool_calls[0])


@case
async def result_of_a_tool(client: AsyncOpenAI) -> None:
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    messages: Any = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "21 °C"},
    ]
    answer = await client.chat.completions.create(
        model=SPEAKER, messages=messages, tools=[WEATHER], temperature=0
    )
    assert answer.choices[0].message.content == SAID


def _check_call(call: Any) -> None:
    assert call.type == "function"
    assert call.id
    assert call.function.name == "get_weather"
    assert orjson.loads(call.function.arguments) == {"city": "Paris"}


@case
async def structured_output(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=TINY, messages=HELLO, response_format=VERDICT, max_tokens=200, seed=2
    )
    told = orjson.loads(answer.choices[0].message.content or "")
    assert type(told["sure"]) is bool
    assert told["city"] in ("Paris", "Rome")


@case
async def streamed_structured_output(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=TINY, messages=HELLO, response_format=VERDICT, max_tokens=200, seed=4, stream=True
    )
    chunks = [chunk async for chunk in stream]
    told = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert orjson.loads(told)["city"] in ("Paris", "Rome")


class Verdict(BaseModel):
    sure: bool
    sound: bool


@case
async def parsed_output(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.parse(
        model=TINY, messages=HELLO, response_format=Verdict, max_tokens=200, seed=3
    )
    assert isinstance(answer.choices[0].message.parsed, Verdict)


@case
async def logprobs(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=SPEAKER, messages=HELLO, logprobs=True, top_logprobs=3, max_tokens=4, temperature=0
    )
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content
    assert all(len(token.top_logprobs) == 3 for token in told.content)


@case
async def streamed_logprobs(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=SPEAKER, messages=HELLO, logprobs=True, max_tokens=4, temperature=0, stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert any(c.choices and c.choices[0].logprobs for c in chunks)


@case
async def several_choices(client: AsyncOpenAI) -> None:
    forever: Any = {"ignore_eos": True}
    answer = await client.chat.completions.create(
        model=TINY, messages=HELLO, n=2, max_tokens=8, extra_body=forever
    )
    assert sorted(choice.index for choice in answer.choices) == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


@case
async def several_choices_streamed(client: AsyncOpenAI) -> None:
    usage: Any = {"include_usage": True}
    told: Any = {"model": SPEAKER, "messages": HELLO, "n": 2, "max_tokens": 40}
    async with client.chat.completions.stream(**told, stream_options=usage) as stream:
        answer = await stream.get_final_completion()
    assert [(c.index, c.message.role) for c in answer.choices] == [(n, "assistant") for n in (0, 1)]
    assert {choice.message.content for choice in answer.choices} == {SAID}
    one = await client.chat.completions.create(model=SPEAKER, messages=HELLO, max_tokens=40)
    assert answer.usage is not None
    assert one.usage is not None
    assert answer.usage.completion_tokens == 2 * one.usage.completion_tokens


@case
async def stop(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=SPEAKER, messages=HELLO, stop=[" capital"], temperature=0
    )
    assert answer.choices[0].message.content == "Paris is the"
    assert answer.choices[0].finish_reason == "stop"


@case
async def max_tokens(client: AsyncOpenAI) -> None:
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = await client.chat.completions.create(model=TINY, messages=HELLO, **limit)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3


@case
async def seed(client: AsyncOpenAI) -> None:
    uncached = {"Cache-Control": "no-store"}
    told: Any = {"model": TINY, "messages": HELLO, "max_tokens": 12, "extra_headers": uncached}
    answers = [await client.chat.completions.create(seed=n, **told) for n in (5, 5, 6)]
    texts = [answer.choices[0].message.content for answer in answers]
    assert texts[0] == texts[1] != texts[2]


@case
async def embeddings(client: AsyncOpenAI) -> None:
    for form in ("float", "base64"):
        raw = await client.embeddings.with_raw_response.create(
            model=EMBEDDER, input=["harbour", "lantern"], encoding_format=form
        )
        told = orjson.loads(raw.content)["data"]
        assert isinstance(told[0]["embedding"], list if form == "float" else str)
        assert [item["index"] for item in told] == [0, 1]
    default = await client.embeddings.create(model=EMBEDDER, input="harbour")
    vector = np.array(default.data[0].embedding)
    assert vector.shape == (384,)
    assert np.allclose(vector, numbers(told[0]["embedding"]), atol=2e-2)
    assert abs(np.linalg.norm(vector) - 1) < 1e-3
    assert default.usage.prompt_tokens > 0


@case
async def dimensions_of_embeddings(client: AsyncOpenAI) -> None:
    short = await client.embeddings.create(model=EMBEDDER, input="harbour", dimensions=64)
    vector = np.array(short.data[0].embedding)
    assert vector.shape == (64,)
    assert abs(np.linalg.norm(vector) - 1) < 1e-3


@case
async def embeddings_of_tokens(client: AsyncOpenAI) -> None:
    for given in ([3000, 3001], [[3000, 3001], [3002]]):
        answer = await client.embeddings.create(model=EMBEDDER, input=given)
        assert len(answer.data) == (1 if given == [3000, 3001] else 2)
        assert len(answer.data[0].embedding) == 384


@case
async def completions(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model=SPEAKER, prompt="Once", max_tokens=8)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    both = await client.completions.create(model=TINY, prompt=["One", "Two"], max_tokens=2)
    assert [choice.index for choice in both.choices] == [0, 1]


@case
async def completions_of_tokens(client: AsyncOpenAI) -> None:
    for prompt in ([5, 6], [[5, 6], [7]]):
        answer = await client.completions.create(model=TINY, prompt=prompt, max_tokens=2)
        assert len(answer.choices) == (1 if prompt == [5, 6] else 2)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == (2 if prompt == [5, 6] else 3)


@case
async def logprobs_of_completions(client: AsyncOpenAI) -> None:
    told: Any = {"model": SPEAKER, "prompt": "Once", "max_tokens": 3, "logprobs": 2}
    answer = await client.completions.create(**told, temperature=0)
    stream = await client.completions.create(**told, temperature=0, stream=True)
    pieces = [chunk.choices[0] async for chunk in stream if chunk.choices]
    for choice in (*answer.choices, *(piece for piece in pieces if piece.logprobs)):
        assert choice.logprobs is not None
        assert "".join(choice.logprobs.tokens or ()) == choice.text
        assert choice.logprobs.token_logprobs
        assert choice.logprobs.text_offset is not None


@case
async def what_is_not_offered(client: AsyncOpenAI) -> None:
    create: Any = client.completions.create
    for fields in ({"echo": True}, {"best_of": 3}):
        refused = create(model=TINY, prompt="Once", max_tokens=2, **fields)
        assert (await _refused(refused, openai.BadRequestError)).param in fields


@case
async def streamed_completions(client: AsyncOpenAI) -> None:
    stream = await client.completions.create(
        model=TINY, prompt="Once", max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6


@case
async def completions_with_suffix(client: AsyncOpenAI) -> None:
    told: Any = {"model": TINY, "prompt": "def add(a, b):", "suffix": "return c", "max_tokens": 6}
    answer = await client.completions.create(**told)
    assert answer.choices[0].text
    stream = await client.completions.create(**told, stream=True, seed=8)
    assert [chunk async for chunk in stream]


@case
async def responses(client: AsyncOpenAI) -> None:
    first = await client.responses.create(model=SPEAKER, input="Where?", temperature=0)
    assert first.output_text == SAID
    assert first.status == "completed"
    assert (await client.responses.retrieve(first.id)).output_text == SAID
    second = await client.responses.create(
        model=SPEAKER, input="And now?", previous_response_id=first.id, temperature=0
    )
    assert second.previous_response_id == first.id
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    await client.responses.delete(first.id)
    await _refused(client.responses.retrieve(first.id), openai.NotFoundError)


@case
async def input_of_responses(client: AsyncOpenAI) -> None:
    response = await client.responses.create(model=SPEAKER, input="Where?", temperature=0)
    items = (await client.responses.input_items.list(response.id)).data
    assert [item.type for item in items] == ["message"]
    counted = await client.responses.input_tokens.count(model=SPEAKER, input="Where?")
    assert response.usage is not None
    assert counted.input_tokens == response.usage.input_tokens
    again: Any = client.responses.retrieve(response.id, stream=True)
    await _refused(again, openai.BadRequestError)


@case
async def responses_that_are_not_stored(client: AsyncOpenAI) -> None:
    answer = await client.responses.create(model=SPEAKER, input=HELLO, store=False, temperature=0)
    assert answer.output_text == SAID
    await _refused(client.responses.retrieve(answer.id), openai.NotFoundError)


@case
async def streamed_responses(client: AsyncOpenAI) -> None:
    stream = await client.responses.create(
        model=SPEAKER, input="Where?", instructions="Be brief.", temperature=0, stream=True
    )
    events = [event async for event in stream]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    deltas = (e.delta for e in events if e.type == "response.output_text.delta")
    assert "".join(deltas) == SAID == events[-1].response.output_text


@case
async def responses_with_tools(client: AsyncOpenAI) -> None:
    told: Any = {"model": CALLER, "input": "Weather?", "tools": [FLAT], "temperature": 0}
    answer = await client.responses.create(**told)
    call = answer.output[-1]
    assert call.type == "function_call"
    assert (call.name, orjson.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "21 °C"}
    after = await client.responses.create(
        model=SPEAKER, input=[output], previous_response_id=answer.id, temperature=0
    )
    assert after.output_text == SAID
    events = [e async for e in await client.responses.create(**told, stream=True)]
    assert any(e.type == "response.function_call_arguments.done" for e in events)


@case
async def choice_among_tools(client: AsyncOpenAI) -> None:
    create: Any = client.chat.completions.create
    told: Any = {"model": CALLER, "messages": HELLO, "tools": [WEATHER], "temperature": 0}
    named = [{"type": "function", "function": {"name": "get_weather"}}]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": named}}
    answer = await create(**told, tool_choice=allowed)
    _check_call(answer.choices[0].message.tool_calls[0])
    other = {"type": "function", "function": {"name": "get_tides"}}
    await _refused(create(**told, tool_choice=other), openai.BadRequestError)


@case
async def ranking(client: AsyncOpenAI) -> None:
    body: Any = {"model": RANKER, "query": "a", "documents": ["x", "y"], "return_documents": True}
    told: Any = await client.post("/rerank", body=body, cast_to=object)
    texts = {result["index"]: result["document"]["text"] for result in told["results"]}
    assert texts == {0: "x", 1: "y"}


@case
async def structured_responses(client: AsyncOpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", **VERDICT["json_schema"]}}
    answer = await client.responses.create(
        model=TINY, input="Sure?", text=form, max_output_tokens=200
    )
    assert orjson.loads(answer.output_text)["city"] in ("Paris", "Rome")


@case
async def unknown_model(client: AsyncOpenAI) -> None:
    create = client.chat.completions.create
    error = await _refused(create(model="nobody", messages=HELLO), openai.NotFoundError)
    assert error.code == "model_not_found"
    await _refused(client.models.retrieve("nobody"), openai.NotFoundError)


@case
async def wrong_fields(client: AsyncOpenAI) -> None:
    create: Any = client.chat.completions.create
    wrong: Any = (
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": -3}, "max_tokens"),
        ({"extra_body": {"launch_missiles": True}}, "launch_missiles"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
        ({"n": 1000}, "n"),
    )
    for fields, param in wrong:
        told = {"model": SPEAKER, "messages": HELLO, **fields}
        error = await _refused(create(**told), openai.BadRequestError)
        assert error.param == param, (error.param, param)


@case
async def too_long_for_the_context(client: AsyncOpenAI) -> None:
    long: Any = [{"role": "user", "content": "harbour lantern " * 2 * CONTEXT}]
    create: Any = client.chat.completions.create
    for stream in (False, True):
        refused = create(model=TINY, messages=long, stream=stream)
        error = await _refused(refused, openai.BadRequestError)
        assert error.code == "context_length_exceeded"
        assert str(CONTEXT) in error.message
        assert "too long" in error.message


async def _refused(call: Awaitable[Any], kind: type[openai.APIStatusError]) -> Any:
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


async def measure(trial: Trial) -> Measured:
    with tempfile.TemporaryDirectory(prefix="ai-stack-matrix-") as made, llamas(Path(made)) as urls:
        await asyncio.gather(*map(listens, urls))
        async with before(trial, [], AI_STACK_ENGINES=" ".join(urls)) as gateway:
            failed = {name: await _run(trial, gateway, name) for name in CASES}
    faults = [f"{name}: {fault}" for name, found in failed.items() for fault in found]
    passed = sum(not found for found in failed.values())
    return Measured({"passed": f"{passed}/{len(CASES)}"}, tuple(faults))


async def _run(trial: Trial, gateway: Gateway, name: str) -> list[str]:
    async with client_of(gateway) as (client, recorder):
        faults = []
        try:
            await CASES[name](client)
        except (AssertionError, openai.OpenAIError, ValueError, KeyError, AttributeError) as error:
            faults.append(f"{type(error).__name__} {' '.join(str(error).split())[:300]}")
        faults += recorder.faults
    trial.log.write("case", name=name, faults=faults)
    return faults


ROWS = (
    Row(
        13,
        f"OpenAI client matrix, {len(CASES)} cases on real llama.cpp, strict validation",
        "100 %",
        measure,
        ("loose-types", "forgotten-usage"),
        calm=True,
    ),
)
