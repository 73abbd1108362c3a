"""One operation as plain ASGI: body in, answer or stream out, failures in the client's own form."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ai_stack.errors import REFUSED_BODIES, AIStackError, InvalidRequest, Unavailable
from ai_stack.models.departure import Departure
from ai_stack.models.inference import Operation, Options
from ai_stack.models.principals import Principal
from ai_stack.rest.openai import errors
from ai_stack.rest.openai.directives import options_of
from ai_stack.rest.openai.reply import Fault, Reply
from ai_stack.rest.requests import INFERRING, Needs
from ai_stack.rest.weight import check_weight, is_small
from ai_stack.services.inference.reading import STREAM, Answer
from ai_stack.stack import Stack

log = logging.getLogger(__name__)

JsonObject: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Request:
    """What a handler gets: the body as an object, who asks, and how it is to be worked on."""

    stack: Stack
    body: JsonObject
    caller: Principal
    options: Options


Handle: TypeAlias = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A handler as an ASGI app; `fault` shapes what goes wrong, `reply` how it is sent.

    `policy` says who may ask it; a body is not read before that is known.
    """

    handle: Handle
    fault: Fault = errors.openai_error
    reply: type[Reply] = Reply
    policy: Needs = INFERRING

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        reply = self.reply(send, state, self.fault)
        departure = state.get("departure")
        try:
            caller = await self.policy.caller(scope)
            await self._serve(await _request(scope, receive, caller, departure), reply)
        except ClientDisconnect:
            return
        except AIStackError as error:
            await reply.fail(error)
        except asyncio.CancelledError:
            if departure is None or not departure.gone:
                await reply.fail(Unavailable("This gateway is stopping; try again shortly."))
                raise
        except Exception as error:
            log.error("%s: unexpected failure", reply.request_id, exc_info=error)
            await reply.fail(AIStackError())
        finally:
            reply.close()

    async def _serve(self, request: Request, reply: Reply) -> None:
        if request.body.get("stream") is True:
            reply.expect_silence()
        answer = await self.handle(request)
        try:
            if answer.media_type == STREAM:
                await reply.stream(answer)
            else:
                await reply.whole(answer)
        finally:
            await answer.aclose()


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


async def _request(
    scope: Scope, receive: Receive, caller: Principal, departure: Departure | None
) -> Request:
    body = await _received(receive)
    if not is_small(body):
        await check_weight(body)
    options = options_of(scope["headers"], departure)
    return Request(scope["state"]["stack"], _object(body), caller, options)


async def _received(receive: Receive) -> bytes:
    """The whole body; what the gate refuses of it comes as the stack's own errors."""
    parts: list[bytes] = []
    while True:
        try:
            message = await receive()
        except HTTPException as error:
            raise REFUSED_BODIES.get(error.status_code, AIStackError) from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _object(body: bytes) -> JsonObject:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not JSON.") from error
    if not isinstance(found, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return found
