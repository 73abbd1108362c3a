"""Calls in the dialects of Responses and of Messages, answered by chat and told in the dialect.

A stream's failure in its midst is told as the dialect's own last event.
"""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from ai_stack.errors import AIStackError, EngineBroken
from ai_stack.models.identifiers import new_hex
from ai_stack.models.inference import Options, Tokens
from ai_stack.models.principals import Principal
from ai_stack.services.inference import Inference, dialects, messages, responses
from ai_stack.services.inference.message_events import MessageStream
from ai_stack.services.inference.reading import STREAM, Answer
from ai_stack.services.inference.response_events import ResponseStream
from ai_stack.services.inference.stored import StoredResponses, new_id

log = logging.getLogger(__name__)

Json = dict[str, Any]
Chunks = AsyncGenerator[Json, None]


class Dialect(Protocol):
    """Turns the chunks of a chat answer into the events of another API."""

    def start(self) -> Iterator[Json]: ...

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Json]: ...

    def finish(self, completed_at: float | None = None) -> Iterator[Json]: ...

    def fail(self, code: str, message: str) -> Iterator[Json]: ...


@dataclass(slots=True, kw_only=True)
class Told(Answer):
    """An answer that is told as it comes."""

    events: AsyncGenerator[bytes, None]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self.events:
            yield event

    async def aclose(self) -> None:
        await self.events.aclose()


@dataclass(frozen=True, slots=True)
class Responses:
    """OpenAI's Responses; those that are stored can be followed by `previous_response_id`."""

    inference: Inference
    stored: StoredResponses

    async def open(self, body: Json, principal: Principal, options: Options) -> Answer:
        """Have a request of the Responses API answered; raises as Inference.open does.

        It is stored unless `store` is false; NotFound for a previous response that is not.
        """
        previous = body.get("previous_response_id")
        history = await self.stored.history(principal, _id(previous)) if previous else []
        chat = responses.to_chat(body, history)
        id, created_at = new_id(), time.time()
        if chat.get("stream"):
            dialect = ResponseStream(body, id, created_at)
            chunks = self.inference.stream("chat", chat, principal, options)

            async def ended() -> None:
                await self._keep(body, dialect.response, principal)

            return await _told(dialect, chunks, ended)
        answer = await self.inference.complete("chat", chat, principal, options)
        response = responses.from_chat(
            body, answer, id=id, created_at=created_at, completed_at=time.time()
        )
        await self._keep(body, response, principal)
        return Answer(body=orjson.dumps(response))

    async def count(self, body: Json) -> Tokens:
        """The tokens that a request's input has."""
        chat = responses.to_chat(body)
        return (await self.inference.tokens(chat.get("model"), chat))[1]

    async def _keep(self, body: Json, response: Json, principal: Principal) -> None:
        """Store it where asked to; an answer is not withheld because it cannot be stored."""
        if body.get("store") is False:
            return
        try:
            items = responses.input_items(body, id=response["id"])
            await self.stored.add(principal, items, response)
        except AIStackError as error:
            log.warning("response %s is not stored: %s", response["id"], error.message)


@dataclass(frozen=True, slots=True)
class Messages:
    """Anthropic's Messages."""

    inference: Inference

    async def open(self, body: Json, principal: Principal, options: Options) -> Answer:
        """Have a request of the Messages API answered; raises as Inference.open does."""
        chat, id = messages.to_chat(body), f"msg_{new_hex()}"
        if chat.get("stream"):
            chunks = self.inference.stream("chat", chat, principal, options)
            return await _told(MessageStream(body, id), chunks)
        answer = await self.inference.complete("chat", chat, principal, options)
        return Answer(body=orjson.dumps(messages.from_chat(body, answer, id=id)))

    async def count(self, body: Json) -> Tokens:
        """The tokens that a request's input has."""
        chat = messages.to_count(body)
        return (await self.inference.tokens(chat.get("model"), chat))[1]


def _id(previous: object) -> str:
    return dialects.text_of(previous, "previous_response_id")


async def _nothing() -> None:
    """What is to be done at the end of an answer that nobody keeps."""


async def _told(dialect: Dialect, chunks: Chunks, ended: Callable[[], Any] = _nothing) -> Told:
    """The answer once it has begun; what fails before raises."""
    first = await anext(chunks, None)
    if first is None:
        raise EngineBroken
    return Told(media_type=STREAM, events=_events(dialect, first, chunks, ended))


async def _events(
    dialect: Dialect, first: Json, chunks: Chunks, ended: Callable[[], Any]
) -> AsyncGenerator[bytes, None]:
    try:
        yield _encoded(dialect.feed(first))
        async for chunk in chunks:
            if events := _encoded(dialect.feed(chunk)):
                yield events
        last = _encoded(dialect.finish(time.time()))
    except AIStackError as error:
        log.warning("an answer broke off: %s", error)
        last = _encoded(dialect.fail(error.code, error.message))
    finally:
        await chunks.aclose()
    await ended()
    yield last


def _encoded(events: Iterator[Json]) -> bytes:
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))
        for event in events
    )
