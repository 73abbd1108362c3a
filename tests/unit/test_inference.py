"""Inference over engines in memory: shared, routed, relayed, kept, logged."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
import pytest

from ai_stack.caches.memory import MemoryCache
from ai_stack.embedders.memory import MemoryEmbedder
from ai_stack.engines.memory import MemoryEngine, Turn, counted
from ai_stack.errors import (
    DatabaseUnavailable,
    DeadlineExceeded,
    EngineBroken,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    ModelNotFound,
    StackError,
    TooBusy,
)
from ai_stack.models.departure import Departure
from ai_stack.models.inference import (
    PLAIN,
    CachePolicy,
    InferenceRecord,
    Options,
    ServedModel,
    Tokens,
)
from ai_stack.models.principals import Principal
from ai_stack.rest.openai.directives import options_of
from ai_stack.services.embedding import Array
from ai_stack.services.inference import Inference, bodies, fleet, journal, relay
from ai_stack.services.inference.answers import Answers
from ai_stack.services.inference.fleet import Fleet, Member, Pool
from ai_stack.services.inference.journal import Journal
from ai_stack.services.inference.prices import Price
from ai_stack.services.inference.routing import Router, blocks_of
from ai_stack.services.inference.similar import SimilarAnswers

ME = Principal()
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello there"}]}
COLD = {**HELLO, "temperature": 0}
DONE = b"data: [DONE]\n\n"


class Rig:
    """An Inference over engines, and what it logs."""

    def __init__(self, *engines: MemoryEngine, queue: int = 8, timeout_s: float = 5) -> None:
        self.logged: list[InferenceRecord] = []
        self.cache = MemoryCache()
        self.inference = Inference(
            Fleet(engines),
            Router(queue),
            Answers(self.cache, 3600),
            Journal(self._write, {"memory": Price(1.0, 2.0)}),
            timeout_s,
        )

    async def _write(self, records: Sequence[InferenceRecord]) -> None:
        self.logged.extend(records)

    async def ask(self, body: Mapping[str, Any] = HELLO, options: Options = PLAIN) -> Any:
        return await self.inference.complete("chat", body, ME, options)

    async def stream(self, body: Mapping[str, Any] = HELLO, options: Options = PLAIN) -> bytes:
        answer = await self.inference.open("chat", {**body, "stream": True}, ME, options)
        try:
            return b"".join([data async for data in answer])
        finally:
            await answer.aclose()

    async def records(self) -> list[InferenceRecord]:
        await self.inference.journal.flush()
        return self.logged


def engine(*script: Turn, slots: int = 4, name: str = "one") -> MemoryEngine:
    served = (ServedModel("memory", 4096, slots),)
    return MemoryEngine(name=name, served=served, script=list(script))


def text(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


async def test_equal_requests_at_once_share_one_answer() -> None:
    one = engine(Turn(delay_s=0.05))
    rig = Rig(one)
    found = await asyncio.gather(*(rig.ask(COLD) for _ in range(10)), rig.ask(HELLO))
    assert [text(answer) for answer in found] == ["hello there"] * 11
    assert len(one.calls) == 2
    assert sum(record.cached for record in await rig.records()) == 9


async def test_bodies_are_in_the_log_where_they_are_asked_for() -> None:
    for wanted in (True, False):
        rig = Rig(engine())
        rig.inference.logs_bodies = wanted
        asked = {**COLD, "messages": [{"role": "user", "content": "hello\0there"}]}
        await rig.ask(asked)
        await rig.ask(asked)
        await rig.stream()
        first, again, streamed = await rig.records()
        if not wanted:
            assert [r.detail for r in (first, again, streamed)] == [None] * 3
            continue
        assert again.cached
        for record in (first, again):
            assert record.detail["request"]["messages"][0]["content"] == "hello\ufffdthere"
            assert text(record.detail["answer"]).startswith("hello")
        assert "data: [DONE]" in streamed.detail["answer"]
        assert len(str(streamed.detail)) < bodies.LONGEST


async def test_equal_streams_at_once_share_one_answer_byte_for_byte() -> None:
    one = engine(Turn(text="a b c d e f", pause_s=0.01))
    rig = Rig(one)

    async def later(pause_s: float) -> bytes:
        await asyncio.sleep(pause_s)
        return await rig.stream(COLD)

    found = await asyncio.gather(*(later(n * 0.01) for n in range(5)))
    assert len(one.calls) == 1
    assert len(set(found)) == 1
    assert found[0].endswith(DONE)
    assert await rig.stream(COLD) == found[0]
    assert len(one.calls) == 1


async def test_others_keep_an_answer_going_when_its_first_reader_leaves() -> None:
    one = engine(Turn(text="a b c d", pause_s=0.02))
    rig, departure = Rig(one), Departure()
    first = asyncio.create_task(rig.stream(COLD, Options(departure=departure)))
    await asyncio.sleep(0.03)
    second = asyncio.create_task(rig.stream(COLD))
    await asyncio.sleep(0.01)
    departure.happen()
    assert (await second).endswith(DONE)
    await first
    assert one.abandoned == 0


async def test_the_engine_stops_when_the_last_reader_leaves() -> None:
    one = engine(Turn(text="a b c d", pause_s=0.02))
    rig, departures = Rig(one), [Departure(), Departure()]
    tasks = [asyncio.create_task(rig.stream(COLD, Options(departure=d))) for d in departures]
    await asyncio.sleep(0.03)
    departures[0].happen()
    await asyncio.sleep(0.01)
    assert one.working == 1
    departures[1].happen()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (one.working, one.abandoned) == (0, 1)
    assert [r.outcome for r in await rig.records()].count("cancelled") == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_before_the_first_byte_ends_the_work(streamed: bool) -> None:
    one = engine(Turn(delay_s=5))
    rig, departure = Rig(one), Departure()
    ask = rig.stream if streamed else rig.ask
    task = asyncio.create_task(ask(HELLO, Options(departure=departure)))
    await asyncio.sleep(0.02)
    departure.happen()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.working == 0
    assert rig.inference.fleet.members[0].outstanding == 0


async def test_another_engine_answers_when_one_fails_before_its_first_byte() -> None:
    failures = [Turn(error=EngineUnavailable()), Turn(error=EngineFailed()), Turn(breaks_after=0)]
    calls = 0
    for turn in failures:
        for ill in (0, 1):
            engines = [engine(name="one"), engine(name="two")]
            engines[ill].script = [turn]
            rig = Rig(*engines)
            assert text(await rig.ask()) == "hello there"
            assert (await rig.stream()).endswith(DONE)
            calls += sum(len(one.calls) for one in engines)
    assert calls == 2 * 6 + 3


async def test_nothing_is_asked_again_after_the_first_byte() -> None:
    one, two = engine(Turn(breaks_after=2), name="one"), engine(Turn(breaks_after=2), name="two")
    rig = Rig(one, two)
    with pytest.raises(EngineBroken):
        await rig.stream(COLD)
    assert len(one.calls) + len(two.calls) == 1
    assert [r.outcome for r in await rig.records()] == ["broken"]
    assert (await rig.stream(COLD)) != b""


async def test_a_request_is_refused_once_and_asked_nowhere_else() -> None:
    one, two = engine(Turn(error=InvalidRequest("no")), name="one"), engine(name="two")
    two.script = [Turn(error=InvalidRequest("no"))]
    rig = Rig(one, two)
    with pytest.raises(InvalidRequest):
        await rig.ask()
    assert len(one.calls) + len(two.calls) == 1


async def test_an_engine_that_keeps_failing_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet, "ONE_DEATH_S", 0)
    engines = [engine(name="one"), engine(name="two")]
    rig = Rig(*engines)
    await rig.ask()
    ill, well = rig.inference.fleet.members
    for member in (ill, well):
        for _ in range(3):
            member.failed()
        member.succeeded()
    for _ in range(3):
        ill.failed()
    before = [len(one.calls) for one in engines]
    for n in range(8):
        await rig.ask({**HELLO, "user": str(n), "max_tokens": n + 1})
    assert [len(one.calls) - was for one, was in zip(engines, before, strict=True)] == [0, 8]
    well.failed(), well.failed(), well.failed()
    assert text(await rig.ask()) == "hello there"  # one that seems down is asked at last
    engines[0].failure = engines[1].failure = EngineUnavailable()
    with pytest.raises(EngineUnavailable):
        await rig.ask()


async def test_what_one_death_ends_is_one_failure() -> None:
    one = engine()
    rig = Rig(one)
    await rig.ask()
    one.failure = EngineUnavailable()
    await asyncio.gather(*(rig.ask() for _ in range(9)), return_exceptions=True)
    assert rig.inference.fleet.members[0].failures == 1


async def test_what_finds_no_room_waits_and_interactive_requests_go_first() -> None:
    one = engine(slots=1)
    one.script = [Turn(delay_s=0.05), Turn(), Turn(), Turn()]
    rig, ended = Rig(one, queue=3), []

    async def ask(name: str, options: Options) -> None:
        await rig.ask({**HELLO, "user": name}, options)
        ended.append(name)

    tasks = [asyncio.create_task(ask("first", Options()))]
    await asyncio.sleep(0.01)
    batch = Options(priority="batch")
    for name, options in (("batch", batch), ("batch-two", batch), ("person", Options())):
        tasks.append(asyncio.create_task(ask(name, options)))
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    with pytest.raises(TooBusy):
        await rig.ask()
    await asyncio.gather(*tasks)
    assert ended == ["first", "person", "batch", "batch-two"]
    assert rig.inference.router.waiting == 0


async def test_the_crowd_of_one_model_waits_and_keeps_nobody_from_another() -> None:
    one = engine()
    one.served = [ServedModel(name, 4096, 1) for name in ("a", "b", "c")]
    one.script = [Turn(delay_s=0.05), Turn(), Turn(), Turn(), Turn()]
    rig, ended = Rig(one), []

    async def ask(name: str, model: str, options: Options) -> None:
        await rig.ask({**HELLO, "model": model, "user": name}, options)
        ended.append(name)

    batch, tasks = Options(priority="batch"), []
    for name, model, options in (
        ("first", "a", batch),
        ("crowd", "a", batch),
        ("person", "a", Options()),
        ("other", "b", batch),
    ):
        tasks.append(asyncio.create_task(ask(name, model, options)))
        await asyncio.sleep(0.005)
    assert (ended, rig.inference.router.waiting) == (["other"], 2)
    await asyncio.gather(*tasks)
    assert ended == ["other", "first", "person", "crowd"]
    (member,) = rig.inference.fleet.members
    assert (member.outstanding, member.working) == (0, {})


async def test_one_who_leaves_the_queue_takes_no_engine_with_him() -> None:
    one = engine(Turn(delay_s=0.05), slots=1)
    rig, departure = Rig(one), Departure()
    first = asyncio.create_task(rig.ask())
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(rig.ask(HELLO, Options(departure=departure)))
    await asyncio.sleep(0.01)
    departure.happen()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await first
    assert rig.inference.fleet.members[0].outstanding == 0
    assert text(await rig.ask()) == "hello there"


async def test_requests_with_one_beginning_go_to_one_engine() -> None:
    engines = [engine(name=name, slots=64) for name in ("a", "b", "c")]
    rig = Rig(*engines)
    long = [{"role": "system", "content": f"{n} " * 2000} for n in range(12)]
    for turn in range(4):
        for system in long:
            await rig.ask({"messages": [system, {"role": "user", "content": f"turn {turn}"}]})
    asked = [
        {call.body["messages"][0]["content"][:2] for call in one.calls}  # type: ignore[index]
        for one in engines
    ]
    assert sum(map(len, asked)) == 12
    assert all(asked)


def test_prompts_of_two_projects_draw_none_along() -> None:
    """Else one could find out by an engine's speed what another has asked."""
    body = {"messages": [{"role": "system", "content": "x " * 4000}]}
    one, two = (blocks_of(body, project) for project in (UUID(int=1), UUID(int=2)))
    assert len(one) == len(two) > 3
    assert not {*one} & {*two}
    assert blocks_of(body, UUID(int=1)) == one


async def test_a_busy_engine_hands_over_to_the_next() -> None:
    engines = [engine(name=name, slots=64) for name in ("a", "b")]
    for one in engines:
        one.script = [Turn(delay_s=0.05)] * 20
    rig = Rig(*engines)
    system = {"role": "system", "content": "x " * 2000}
    users = [{"role": "user", "content": str(n)} for n in range(12)]
    await asyncio.gather(*(rig.ask({"messages": [system, user]}) for user in users))
    assert min(len(one.calls) for one in engines) >= 4


async def test_only_what_would_come_out_the_same_again_is_kept() -> None:
    one = engine()
    rig = Rig(one)
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    bodies = [HELLO, COLD, {**HELLO, "seed": 1}, {**COLD, "tools": [tool]}]
    asked = []
    for body in bodies:
        before = len(one.calls)
        await rig.ask(body)
        await rig.ask(body)
        asked.append(len(one.calls) - before)
    assert asked == [2, 1, 1, 2]


async def test_the_client_says_what_the_cache_may_do() -> None:
    one = engine()
    rig = Rig(one)
    asked_for = Options(CachePolicy(asked=True, longest_s=60))
    await rig.ask(HELLO, asked_for)
    await rig.ask(HELLO, asked_for)
    assert len(one.calls) == 1
    await rig.ask(COLD, Options(CachePolicy(reads=False, stores=False)))
    await rig.ask(COLD)
    assert len(one.calls) == 3
    await rig.ask(COLD, Options(CachePolicy(reads=False)))
    assert len(one.calls) == 4
    with pytest.raises(DeadlineExceeded):
        await rig.ask({**COLD, "seed": 9}, Options(CachePolicy(only=True)))


async def test_projects_do_not_share_answers() -> None:
    one = engine()
    rig = Rig(one)
    other = Principal(UUID(int=7))
    for principal in (ME, other, ME, other):
        await rig.inference.complete("chat", COLD, principal)
    assert len(one.calls) == 2


async def test_other_weights_under_one_name_have_answers_of_their_own() -> None:
    one = engine()
    rig = Rig(one)
    await rig.ask(COLD)
    one.served = (ServedModel("memory", 4096, 4, revision="2"),)
    await rig.inference.fleet.look()
    await rig.ask(COLD)
    assert len(one.calls) == 2


async def test_an_answer_that_breaks_off_is_not_kept() -> None:
    one = engine(Turn(breaks_after=1))
    rig = Rig(one)
    with pytest.raises(EngineBroken):
        await rig.stream(COLD)
    assert (await rig.stream(COLD)).endswith(DONE)
    assert len(one.calls) == 2


async def test_a_late_answer_ends_with_its_deadline() -> None:
    one = engine(Turn(delay_s=5), Turn(text="a b c", pause_s=0.2))
    rig = Rig(one, timeout_s=0.1)
    with pytest.raises(DeadlineExceeded):
        await rig.ask()
    with pytest.raises(DeadlineExceeded):
        await rig.stream()
    assert [r.outcome for r in await rig.records()] == ["late", "late"]
    assert one.working == 0
    await asyncio.sleep(0.2)


async def test_a_slow_follower_bounds_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CAP", 2000)
    one = engine(Turn(text="word " * 100))
    rig = Rig(one)
    first = await rig.inference.open("chat", {**COLD, "stream": True}, ME)
    second = await rig.inference.open("chat", {**COLD, "stream": True}, ME)
    both = await asyncio.gather(*(_slowly(a, pause) for a, pause in ((first, 0), (second, 0.001))))
    assert both[0] == both[1]
    assert both[0].endswith(DONE)
    assert len(one.calls) == 1
    await rig.stream(COLD)
    assert len(one.calls) == 2


async def _slowly(answer: Any, pause_s: float) -> bytes:
    parts = []
    async for data in answer:
        parts.append(data)
        await asyncio.sleep(pause_s)
    await answer.aclose()
    return b"".join(parts)


async def test_a_model_is_found_by_what_people_call_it() -> None:
    one = MemoryEngine(served=(ServedModel("qwen2.5-coder-7b-instruct"),))
    pool = Rig(one).inference.fleet.pool
    for name in (None, "qwen2.5-coder-7b-instruct", "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF"):
        assert (await pool(name, "chat")).model.id == "qwen2.5-coder-7b-instruct"
    with pytest.raises(ModelNotFound):
        await pool("llama", "chat")
    with pytest.raises(ModelNotFound):
        await pool(None, "embedding")
    with pytest.raises(InvalidRequest):
        await pool("qwen2.5-coder-7b-instruct", "embedding")


async def test_an_engine_that_comes_later_is_noticed() -> None:
    one = engine()
    one.served = ()
    rig = Rig(one)
    with pytest.raises(ModelNotFound):
        await rig.ask()
    one.served = (ServedModel("memory"),)
    await asyncio.sleep(0.6)
    assert text(await rig.ask()) == "hello there"


async def test_health_asks_an_engine_that_failed_again_and_tells_what_it_is_now() -> None:
    one = engine()
    fleet = Rig(one).inference.fleet
    assert await fleet.ping() == "memory"
    fleet.members[0].failed()
    one.failure = EngineUnavailable()
    await asyncio.sleep(0.6)
    with pytest.raises(EngineUnavailable):
        await fleet.ping()
    one.failure = None
    await asyncio.sleep(0.6)
    assert await fleet.ping() == "memory"


async def test_usage_is_asked_for_and_shown_to_those_who_want_it() -> None:
    one = engine()
    rig = Rig(one)
    assert b'"usage"' not in await rig.stream()
    shown = await rig.stream({**HELLO, "stream_options": {"include_usage": True}})
    chunks = [orjson.loads(e[6:]) for e in shown.split(b"\n\n")[:-2]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    assert [r.usage.completion for r in await rig.records() if r.usage] == [2, 2]
    assert [r.cost for r in await rig.records()] == [7e-6, 7e-6]


async def test_a_log_that_cannot_be_written_is_bounded_and_loses_nothing_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "LONGEST", 5)
    rig = Rig(engine())
    down = Journal(_fail)
    rig.inference.journal = down
    for _ in range(8):
        await rig.ask()
    with pytest.raises(DatabaseUnavailable):
        await down.flush()
    assert (down.waiting, down.dropped) == (5, 3)


async def _fail(records: Sequence[InferenceRecord]) -> None:
    raise DatabaseUnavailable


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ASKED = {**HELLO, "tools": [TOOL]}


def called(arguments: str) -> Turn:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return Turn(message={"content": None, "tool_calls": [{"index": 0, **call}]}, text="")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ('{"city": "Oslo", "days": 2}', '{"city": "Oslo", "days": 2}'),
        ("{'city': 'Oslo', days: '2',}", '{"city":"Oslo","days":2}'),
    ],
)
async def test_tool_calls_reach_the_client_well_formed(
    told: str, meant: str, streamed: bool
) -> None:
    rig = Rig(engine(called(told)))
    found = await _arguments(rig, streamed)
    assert orjson.loads(found) == orjson.loads(meant)
    assert (found == told) == (told == meant)
    detail = (await rig.records())[0].detail
    assert (detail is None) == (told == meant)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_no_repair_fits_is_asked_for_once_more(streamed: bool) -> None:
    one = engine(called('{"days": 2}'), Turn(text='{"city": "Oslo", "days": 2}'))
    rig = Rig(one)
    assert orjson.loads(await _arguments(rig, streamed)) == {"city": "Oslo", "days": 2}
    anew = one.calls[1].body
    assert anew["response_format"]["type"] == "json_schema"  # type: ignore[index]
    assert (await rig.records())[0].detail["tool_calls"]["repaired"] == 1  # type: ignore[index]


async def _arguments(rig: Rig, streamed: bool) -> str:
    if not streamed:
        message = (await rig.ask(ASKED))["choices"][0]["message"]
        return str(message["tool_calls"][0]["function"]["arguments"])
    chunks = [
        orjson.loads(event[6:])
        for event in (await rig.stream(ASKED)).split(b"\n\n")
        if event.startswith(b"data: {")
    ]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
    return "".join(call["function"]["arguments"] for call in calls)


def ask_of(text: str, **more: Any) -> dict[str, Any]:
    system = {"role": "system", "content": more.pop("system", "be brief")}
    return {"messages": [system, {"role": "user", "content": text}], "temperature": 0, **more}


async def test_like_questions_share_an_answer_only_where_all_else_is_equal() -> None:
    one, words = engine(), MemoryEmbedder()
    rig = Rig(one)

    async def embed(said: str) -> Array:
        return (await words.embed([said], "query"))[0]

    rig.inference.similar = SimilarAnswers(rig.cache, embed, 0.8, 60)
    first = ask_of("what is the capital of France in 2023 please")
    alike = ask_of("what is the capital of France in 2023, please")
    await rig.ask(first)
    await rig.ask(alike)
    assert len(one.calls) == 1
    others = [
        ask_of("what is the capital of France in 2024 please"),
        ask_of("what is the capital of France in 2023, please", system="be long"),
        ask_of("what is the capital of France in 2023, please", max_tokens=5),
        ask_of("who wrote this song"),
    ]
    for number, other in enumerate(others, 2):
        await rig.ask(other)
        assert len(one.calls) == number
    await rig.inference.complete("chat", alike, Principal(UUID(int=7)))
    assert len(one.calls) == 6


async def test_a_like_question_is_answered_in_the_form_that_it_asks_for() -> None:
    rig, words = Rig(engine()), MemoryEmbedder()

    async def embed(said: str) -> Array:
        return (await words.embed([said], "query"))[0]

    rig.inference.similar = SimilarAnswers(rig.cache, embed, 0.8, 60)
    first = {**ask_of("what is the capital of France please"), "stream": True}
    alike = {**ask_of("what is the capital of France, please"), "stream": True}
    assert b'"usage"' in await rig.stream({**first, "stream_options": {"include_usage": True}})
    assert b'"usage"' not in await rig.stream(alike)


async def test_who_wants_no_kept_answer_is_not_given_one_whose_reader_is_slow() -> None:
    one = engine()
    rig = Rig(one)
    host = await rig.inference.open("chat", COLD, ME)
    await rig.ask(COLD)
    assert len(one.calls) == 1
    await rig.ask(COLD, Options(cache=CachePolicy(reads=False)))
    assert len(one.calls) == 2
    await host.aclose()


async def test_one_who_leaves_as_an_engine_is_given_back_takes_none_with_him() -> None:
    rig = Rig(engine(Turn(delay_s=0.05), slots=1))
    first = asyncio.create_task(rig.ask(question("one")))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(rig.ask(question("two")))
    await asyncio.sleep(0.01)
    (member,), give_back = rig.inference.fleet.members, Router.release

    class Late(Router):
        def release(self, member: Member, pool: Pool) -> None:
            second.cancel()
            give_back(self, member, pool)

    rig.inference.router.__class__ = Late
    assert text(await first) == "one"
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (member.outstanding, rig.inference.router.waiting) == (0, 0)
    assert text(await rig.ask(question("three"))) == "three"


async def test_a_client_that_does_not_read_keeps_no_engine_beyond_its_time() -> None:
    one = engine(Turn(text="a b c d"), slots=1)
    rig = Rig(one, timeout_s=0.1)
    host = await rig.inference.open("chat", {**COLD, "stream": True}, ME)
    follower = asyncio.create_task(rig.stream(COLD))
    await asyncio.sleep(0.15)
    assert one.working == rig.inference.fleet.members[0].outstanding == 0
    with pytest.raises(DeadlineExceeded):
        await follower
    with pytest.raises(DeadlineExceeded):
        [data async for data in host]
    await host.aclose()
    assert text(await rig.ask(COLD)) == "hello there"
    assert [r.outcome for r in await rig.records()] == ["ok", "late", "ok"]


async def test_a_follower_has_a_deadline_of_its_own_and_never_the_shorter_one_of_its_host() -> None:
    rig = Rig(engine(Turn(delay_s=0.2), Turn(text="own")))
    host = asyncio.create_task(rig.ask(COLD, Options(timeout_s=1)))
    await asyncio.sleep(0.01)
    with pytest.raises(DeadlineExceeded):
        await rig.ask(COLD, Options(timeout_s=0.05))
    assert text(await rig.ask(COLD, Options(timeout_s=2))) == "own"
    assert text(await host) == "hello there"


async def test_those_who_follow_a_request_that_is_cancelled_are_answered_all_the_same() -> None:
    one = engine(Turn(delay_s=0.05))
    rig = Rig(one)
    tasks = [asyncio.create_task(rig.ask(COLD)) for _ in range(3)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [text(answer) for answer in found[1:]] == ["hello there"] * 2
    assert (len(one.calls), one.working) == (2, 0)


async def test_endless_names_of_one_model_are_not_kept() -> None:
    rig = Rig(engine())
    for n in range(fleet.KNOWN_NAMES + 10):
        await rig.inference.fleet.pool(f"owner-{n}/memory", "chat")
    assert len(rig.inference.fleet._pools) <= fleet.KNOWN_NAMES


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}},
        {"type": "text", "text": "x", "uuid": "1", "image_url": {"url": "http://10.0.0.1/"}},
        {"type": "text", "text": "x", "video_url": {"url": "http://10.0.0.1/"}},
        {"type": "refusal", "refusal": "x", "uuid": "1"},
        {"type": "input_audio", "input_audio": {"data": "http://10.0.0.1/", "format": "wav"}},
        {"type": "input_audio", "input_audio": "file:///etc/passwd"},
    ],
)
async def test_no_engine_is_told_of_a_place_to_fetch_from(part: dict[str, Any]) -> None:
    rig = Rig(engine())
    messages = [{"role": "user", "content": [part]}]
    with pytest.raises(InvalidRequest):
        await rig.ask({"messages": messages})
    with pytest.raises(InvalidRequest):
        await rig.inference.tokens(None, messages)


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template_kwargs": {"chat_template": "{{ x }}"}},
        {"chat_template_kwargs": {"tokenize": False}},
        {"chat_template_kwargs": orjson.loads(b'{"a":' * 400 + b"1" + b"}" * 400)},
    ],
)
async def test_what_an_engine_cannot_take_is_refused(fields: dict[str, Any]) -> None:
    rig = Rig(engine())
    with pytest.raises(InvalidRequest):
        await rig.ask({**HELLO, **fields})
    with pytest.raises(InvalidRequest):
        await rig.inference.tokens(None, {**HELLO, **fields})


async def test_tokens_are_told_by_whichever_engine_answers() -> None:
    first, second = engine(), engine()
    rig = Rig(first, second)
    await rig.inference.fleet.look()
    first.failure = EngineUnavailable()
    assert await rig.inference.tokens(None, "one two") == ("memory", counted("one two"))
    second.failure = first.failure
    with pytest.raises(EngineUnavailable):
        await rig.inference.tokens(None, "one two")


async def test_tokens_are_told_within_the_time() -> None:
    class Silent(MemoryEngine):
        async def tokens(self, *asked: object) -> Tokens:
            await asyncio.sleep(60)
            raise AssertionError("its time was over")

    rig = Rig(Silent(), timeout_s=0.05)
    with pytest.raises(DeadlineExceeded):
        await rig.inference.tokens(None, "one two")


async def test_odd_choices_among_tools_are_none() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    for choice in ({"allowed_tools": {"tools": ["f"]}}, {"type": "function", "function": "f"}):
        asked = {**HELLO, "tools": tools, "tool_choice": choice}
        assert text(await Rig(engine()).ask(asked)) == "hello there"


@pytest.mark.parametrize("body", [b'{"error": {"message": "no"}}', b'{"choices": [1]}'])
async def test_a_failure_under_a_good_status_is_one_and_is_not_kept(body: bytes) -> None:
    rig = Rig(engine(Turn(parts=[body])))
    with pytest.raises(EngineFailed):
        await rig.ask(COLD)
    assert text(await rig.ask(COLD)) == "hello there"


def test_a_cache_control_of_any_length_is_read() -> None:
    longest = options_of([(b"cache-control", b"max-age=" + b"9" * 5000)]).cache.longest_s
    assert longest is not None
    assert longest > 1 << 24


def question(words: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words}]}


async def test_rows_that_the_database_refuses_keep_no_others_waiting() -> None:
    taken: list[InferenceRecord] = []

    async def write(records: Sequence[InferenceRecord]) -> None:
        if any(record.model == "bad" for record in records):
            raise StackError
        taken.extend(records)

    rig = Rig(engine())
    log = rig.inference.journal = Journal(write)
    await rig.ask()
    log._rows[0].model = "bad"
    await log.flush()
    await rig.ask()
    await log.flush()
    assert (log.waiting, log.dropped, len(taken)) == (0, 1, 1)
