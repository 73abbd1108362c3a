"""What every REST request brings: JSON read by orjson, the stack, and who asks."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, cast

import orjson
from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute

from ai_stack.errors import InvalidRequest
from ai_stack.models.principals import Principal
from ai_stack.stack import Stack


class JsonRequest(Request):
    """A request whose body is read by orjson, which refuses NaN and endless nesting."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
        return self._json


class JsonRoute(APIRoute):
    """A route that reads its body as JsonRequest does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_orjson(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return with_orjson


async def _stack(request: Request) -> Stack:
    return cast(Stack, request.state.stack)


async def _principal() -> Principal:
    return Principal()


async def _if_match(if_match: Annotated[str | None, Header()] = None) -> int | None:
    """The version that If-Match names; None for none and for `*`."""
    if if_match is None or if_match.strip() == "*":
        return None
    try:
        return int(if_match.strip().strip('"'))
    except ValueError as error:
        raise InvalidRequest("If-Match must be the ETag of a document.") from error


UseStack = Annotated[Stack, Depends(_stack)]
Caller = Annotated[Principal, Depends(_principal)]
IfMatch = Annotated[int | None, Depends(_if_match)]
