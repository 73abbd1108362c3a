"""One operation as plain ASGI: body in, answer or stream out, failures in the client's own form."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ai_stack.errors import AIStackError, InvalidRequest, TooBusy, TooLarge
from ai_stack.models.inference import Operation, Options
from ai_stack.models.principals import Principal
from ai_stack.rest.departure import until_departure
from ai_stack.rest.openai import errors
from ai_stack.rest.openai.directives import options_of
from ai_stack.rest.requests import caller_of
from ai_stack.rest.weight import check_weight
from ai_stack.services.inference import Answer
from ai_stack.stack import Stack

log = logging.getLogger(__name__)

KEEP_ALIVE = b": keep-alive\n\n"
STREAM = "text/event-stream"
STREAM_HEAD = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
JSON_HEAD = (b"content-type", b"application/json")

Fault: TypeAlias = Callable[[AIStackError, str], dict[str, object]]
JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler gets: the body as an object, who asks, and how it is to be worked on."""

    stack: Stack
    body: JsonObject
    caller: Principal
    options: Options


Handle: TypeAlias = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A handler as an ASGI app; `fault` shapes what goes wrong."""

    handle: Handle
    fault: Fault = errors.openai_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = str(scope["state"].get("request_id", ""))
        try:
            request = await _request(scope, receive)
            async with until_departure(scope, receive):
                await self._serve(request, send, request_id)
        except ClientDisconnect:
            return
        except AIStackError as error:
            await self._refuse(error, send, request_id)

    async def _serve(self, request: Request, send: Send, request_id: str) -> None:
        answer = await self.handle(request)
        try:
            if answer.media_type == STREAM:
                await self._stream(answer, send, request_id)
            else:
                await _whole(answer, send)
        finally:
            answer.leave()

    async def _stream(self, answer: Answer, send: Send, request_id: str) -> None:
        """The events as they come. A failure is the last event, and then there is no [DONE]."""
        await send(_start(200, [*STREAM_HEAD, _cache_head(answer)]))
        try:
            async for data in answer:
                body = data or KEEP_ALIVE
                await send({"type": "http.response.body", "body": body, "more_body": True})
        except AIStackError as error:
            errors.tell(error, request_id)
            last = errors.event(self.fault(error, request_id))
            await send({"type": "http.response.body", "body": last, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _refuse(self, error: AIStackError, send: Send, request_id: str) -> None:
        errors.tell(error, request_id)
        body = orjson.dumps(self.fault(error, request_id))
        length = (b"content-length", str(len(body)).encode())
        await send(_start(errors.status_of(error), [*errors.headers_of(error), length]))
        await send({"type": "http.response.body", "body": body})


class Delegated(Response):
    """A response that an endpoint gives: how a described route serves what is plain ASGI."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.endpoint(scope, receive, send)


def direct(operation: Operation) -> Endpoint:
    """The endpoint of an operation whose bodies are what the engines take."""

    async def handle(request: Request) -> Answer:
        inference = request.stack.inference
        return await inference.open(operation, request.body, request.caller, request.options)

    return Endpoint(handle)


async def _request(scope: Scope, receive: Receive) -> Request:
    body = await _object(await _received(receive))
    options = options_of(scope["headers"])
    return Request(scope["state"]["stack"], body, await caller_of(), options)


async def _received(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await _message(receive)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _message(receive: Receive) -> Mapping[str, Any]:
    """The next message; what the gate refuses of a body comes as the stack's own errors."""
    try:
        return await receive()
    except HTTPException as error:
        raise (TooLarge if error.status_code == TooLarge.status else TooBusy) from error


async def _object(body: bytes) -> JsonObject:
    await check_weight(body)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not JSON.") from error
    if not isinstance(found, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return found


async def _whole(answer: Answer, send: Send) -> None:
    body = await answer.whole()
    length = (b"content-length", str(len(body)).encode())
    await send(_start(200, [JSON_HEAD, length, _cache_head(answer)]))
    await send({"type": "http.response.body", "body": body})


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, object]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _cache_head(answer: Answer) -> tuple[bytes, bytes]:
    return (b"x-cache", b"HIT" if answer.cached else b"MISS")
