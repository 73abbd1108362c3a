"""Inference: one way from a request to the tokens of a model, whichever engine has it.

A request is checked, its model resolved, the cache asked; equal requests at once share one
answer; an engine is chosen and asked, and what it says is relayed to whoever still listens.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from ai_stack.alongside import alongside
from ai_stack.errors import (
    AIStackError,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    TooBusy,
    Unsupported,
)
from ai_stack.models.identifiers import uuid7_hex
from ai_stack.models.inference import (
    PLAIN,
    Body,
    Call,
    InferenceRecord,
    Operation,
    Options,
    ServedModel,
    Tokens,
)
from ai_stack.models.principals import Principal, Scope
from ai_stack.services.inference import bodies, events
from ai_stack.services.inference.answers import Answers, Kept
from ai_stack.services.inference.charging import Charge, charging, reserve
from ai_stack.services.inference.fleet import Fleet, Pool
from ai_stack.services.inference.journal import Journal
from ai_stack.services.inference.reading import (
    JSON,
    STREAM,
    Answer,
    Expiries,
    Expiry,
    Followed,
    Hosted,
)
from ai_stack.services.inference.relay import Relay
from ai_stack.services.inference.requests import checked
from ai_stack.services.inference.routing import Router
from ai_stack.services.inference.similar import Question, SimilarAnswers
from ai_stack.services.inference.work import Work
from ai_stack.services.limits import Limits
from ai_stack.telemetry.tracing import Tracing


@dataclass(slots=True)
class Asked:
    """A request that may be answered: what goes to the engines, for whom, and how."""

    call: Call
    pool: Pool
    principal: Principal
    options: Options
    keeps_usage: bool
    key: str | None = None
    question: Question | None = None
    charge: Charge | None = None

    @property
    def media_type(self) -> str:
        return STREAM if self.call.streamed else JSON

    @property
    def form(self) -> str:
        """How its answer looks, beside what the call says."""
        return "usage" if self.keeps_usage else ""

    def record(self) -> InferenceRecord:
        return InferenceRecord(
            id=uuid7_hex(),
            at=time.time(),
            project_id=self.principal.project_id,
            principal=self.principal.name,
            operation=self.call.operation,
            model=self.call.model,
        )


@dataclass(slots=True)
class Inference:
    """Calls to models; see `requests` for what they may say."""

    fleet: Fleet
    router: Router
    answers: Answers
    journal: Journal
    timeout_s: float
    similar: SimilarAnswers | None = None
    tracing: Tracing | None = None
    limits: Limits | None = None
    logs_bodies: bool = False
    _flights: dict[str, Relay] = field(default_factory=dict)
    _expiries: Expiries = field(init=False)

    def __post_init__(self) -> None:
        self._expiries = Expiries(self.timeout_s)

    def models(self) -> list[ServedModel]:
        """The models that are served at this moment."""
        return self.fleet.models()

    async def open(
        self,
        operation: Operation,
        body: Mapping[str, Any],
        principal: Principal,
        options: Options = PLAIN,
    ) -> Answer:
        """Have a request in OpenAI's form answered; returns when the answer begins.

        Raises InvalidRequest, ModelNotFound or ContextTooLong for what cannot be answered,
        LimitExceeded, TooBusy and EngineUnavailable for what cannot be answered now,
        DeadlineExceeded, EngineFailed.
        """
        principal.require(Scope.INFER)
        passed = checked(operation, body)
        name = _text(passed.get("model"))
        pool = self.fleet.known(name, operation) or await self.fleet.pool(name, operation)
        call = _call(operation, passed, pool)
        call.salt = principal.project_id.hex
        asked = Asked(call, pool, principal, options, _keeps_usage(body))
        asked.key = self._key(asked)
        if asked.key is not None and options.cache.reads:
            kept = await self.answers.get(asked.key, options.cache)
            if kept is not None:
                return self._from_cache(asked, kept)
            if self.similar is not None and (kept := await self._like(asked)) is not None:
                return self._from_cache(asked, kept)
        if options.cache.only:
            raise DeadlineExceeded("There is no answer to this in the cache.")
        return await self._begun(asked)

    async def complete(
        self,
        operation: Operation,
        body: Mapping[str, Any],
        principal: Principal,
        options: Options = PLAIN,
    ) -> dict[str, Any]:
        """The answer to a request that is not streamed, as an object; raises as `open` does."""
        plain = {n: v for n, v in body.items() if n not in ("stream", "stream_options")}
        answer = await self.open(operation, plain, principal, options)
        try:
            found: dict[str, Any] = orjson.loads(await answer.whole())
        finally:
            await answer.aclose()
        return found

    async def stream(
        self,
        operation: Operation,
        body: Mapping[str, Any],
        principal: Principal,
        options: Options = PLAIN,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of a streamed answer, the last with its usage; raises as `open` does."""
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        answer = await self.open(operation, asked, principal, options)
        try:
            async for chunk in events.chunks(aiter(answer)):
                yield chunk
        finally:
            await answer.aclose()

    async def tokens(
        self, model: str | None, subject: str | list[Any] | Mapping[str, Any]
    ) -> tuple[str, Tokens]:
        """The model's id, and the tokens of a text, of messages or of a chat request."""
        if not isinstance(subject, str):
            chat = subject if isinstance(subject, Mapping) else {"messages": subject}
            subject = checked("chat", chat)
            _encoded(subject)
        pool = await self.fleet.pool(model, "chat")
        try:
            async with asyncio.timeout(self.timeout_s):
                return pool.model.id, await _counted(pool, subject)
        except TimeoutError as error:
            raise DeadlineExceeded from error

    def _key(self, asked: "Asked") -> str | None:
        project, revision = asked.principal.project_id, asked.pool.revision
        return self.answers.key(asked.call, project, revision, asked.options.cache, asked.form)

    def _from_cache(self, asked: "Asked", kept: Kept) -> Answer:
        record = self._record(asked)
        record.cached, record.engine, record.usage = True, kept.engine, kept.usage
        self._note(record, asked.call, kept.body)
        return Answer(asked.media_type, kept.engine, True, kept.body)

    async def _like(self, asked: "Asked") -> Kept | None:
        """The answer to a nearly equal question."""
        assert self.similar is not None
        project, revision = asked.principal.project_id, asked.pool.revision
        asked.question = await self.similar.question(asked.call, project, revision, asked.form)
        key = None if asked.question is None else await self.similar.find(asked.question)
        return None if key is None else await self.answers.get(key, asked.options.cache)

    async def _begun(self, asked: "Asked") -> Answer:
        """An answer that has begun; one whose host was cancelled meanwhile is asked for anew."""
        while (followed := self._followed(asked)) is not None:
            try:
                await followed.begin()
            except AIStackError:
                if not followed.follower.relay.abandoned:
                    raise
            else:
                return followed
        if self.limits is not None and asked.principal.limits:
            asked.charge = await reserve(self.limits, asked.principal, asked.call)
        hosted = self._hosted(asked)
        await hosted.begin()
        return hosted

    def _followed(self, asked: "Asked") -> Followed | None:
        """A place at the answer that another equal request draws already."""
        relay = None if asked.key is None else self._flights.get(asked.key)
        if relay is None or not relay.is_whole or relay.error is not None:
            return None
        if relay.ended and not asked.options.cache.reads:
            return None
        timeout_s = self._timeout_s(asked)
        if relay.timeout_s < timeout_s:  # it would end before its time
            return None
        follower = relay.follow()
        record = self._record(asked)
        record.cached = True
        self._note(record, asked.call, None)
        return Followed(
            media_type=asked.media_type,
            cached=True,
            follower=follower,
            departure=asked.options.departure,
            expiry=self._expiry(timeout_s, follower.expire),
            cancel=_current_task().cancel,
        )

    def _hosted(self, asked: "Asked") -> Hosted:
        options, key = asked.options, asked.key
        timeout_s = self._timeout_s(asked)
        work = Work(
            call=asked.call,
            pool=asked.pool,
            router=self.router,
            record=self._record(asked),
            ended=charging(asked.charge, _nothing if self.logs_bodies else self.journal.add),
            priority=options.priority,
            keeps_usage=asked.keeps_usage,
        )
        kept = key is not None or self.logs_bodies
        relay = Relay(work, shared=kept, timeout_s=timeout_s)
        if key is not None:
            self._flights[key] = relay
        return Hosted(
            media_type=asked.media_type,
            relay=relay,
            departure=options.departure,
            expiry=self._expiry(timeout_s, relay.expire),
            closed=partial(self._landed, relay, asked),
        )

    def _record(self, asked: "Asked") -> InferenceRecord:
        record = asked.record()
        if self.tracing is not None:
            asked.call.trace = record.trace = self.tracing.begun()
        return record

    def _note(self, record: InferenceRecord, call: Call, answer: bytes | None) -> None:
        self.journal.add(bodies.add(record, call, answer) if self.logs_bodies else record)

    def _timeout_s(self, asked: "Asked") -> float:
        return min(asked.options.timeout_s or self.timeout_s, self.timeout_s)

    def _expiry(self, timeout_s: float, call: Callable[[], object]) -> Expiry:
        if timeout_s == self.timeout_s:
            return self._expiries.add(call)
        return asyncio.get_running_loop().call_later(timeout_s, call)

    async def _landed(self, relay: Relay, asked: "Asked") -> None:
        """An answer has been read: it is kept when it came whole, and shared no more."""
        key, policy = asked.key, asked.options.cache
        if self.logs_bodies:
            answer = relay.whole() if relay.is_whole and relay.ended else None
            self._note(relay.work.record, asked.call, answer)
        if key is None:
            return
        if self._flights.get(key) is relay:
            del self._flights[key]
        if relay.is_whole and relay.ended and relay.error is None:
            record = relay.work.record
            await self.answers.keep(key, relay.whole(), record.engine, record.usage, policy)
            if self.similar is not None and asked.question is not None:
                await self.similar.add(asked.question, key)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the engines and write the log for as long as the block lasts."""
        try:
            async with alongside(self.fleet.keep_looking(), self.journal.keep_writing()):
                yield
        finally:
            with suppress(AIStackError):
                await self.journal.flush()


async def _counted(pool: Pool, subject: str | Body) -> Tokens:
    """The tokens by the first engine that tells them, those that failed lately asked last."""
    *others, last = sorted(pool.members, key=lambda member: member.shunned_until)
    for member in others:
        with suppress(EngineUnavailable, EngineFailed, TooBusy, Unsupported):
            return await member.engine.tokens(pool.model.id, subject)
    return await last.engine.tokens(pool.model.id, subject)


def _call(operation: Operation, passed: dict[str, object], pool: Pool) -> Call:
    """What goes to an engine: a stream always tells its usage, which the log wants."""
    passed["model"] = pool.model.id
    passed.pop("stream_options", None)
    if passed.get("stream"):
        passed["stream_options"] = {"include_usage": True}
    else:
        passed.pop("stream", None)
    return Call(operation, passed, _encoded(passed))


def _keeps_usage(body: Mapping[str, Any]) -> bool:
    """Whether a client wants the usage in its stream."""
    wanted = body.get("stream_options")
    return isinstance(wanted, dict) and wanted.get("include_usage") is True


def _encoded(body: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidRequest("The request nests too deep.") from error


def _nothing(_: InferenceRecord) -> None:
    """Until the answer has been read: it is to be in the log too."""


def _current_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
