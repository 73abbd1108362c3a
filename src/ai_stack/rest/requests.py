"""What every REST request brings: JSON read by orjson, the stack, and who asks."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, cast

import orjson
from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute

from ai_stack.errors import InvalidRequest
from ai_stack.models.principals import Principal
from ai_stack.rest.weight import check_weight
from ai_stack.stack import Stack


class JsonRequest(Request):
    """A request whose body is read by orjson, which refuses NaN and endless nesting."""

    async def json(self) -> Any:
        """The body's value; InvalidRequest when it is not JSON, TooLarge when it would unfold."""
        if not hasattr(self, "_json"):
            body = await self.body()
            await check_weight(body)
            try:
                self._json = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise InvalidRequest("The body is not JSON.") from error
        return self._json

    async def read(self) -> None:
        """Read it now, since FastAPI would hide why it cannot be read."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.endswith("json") and await self.body():
            await self.json()


class JsonRoute(APIRoute):
    """A route that reads its body as JsonRequest does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_orjson(request: Request) -> Response:
            read = JsonRequest(request.scope, request.receive)
            if self.body_field is not None:
                await read.read()
            return await handle(read)

        return with_orjson


async def stack_of(request: Request) -> Stack:
    """The stack that the server opened."""
    return cast(Stack, request.state.stack)


async def caller_of() -> Principal:
    """Who asks: the one place where that is decided."""
    return Principal()


async def _if_match(if_match: Annotated[str | None, Header()] = None) -> int | None:
    """The version that If-Match names; None for none and for `*`."""
    if if_match is None or if_match.strip() == "*":
        return None
    try:
        return int(if_match.strip().strip('"'))
    except ValueError as error:
        raise InvalidRequest("If-Match must be the ETag of a document.") from error


UseStack = Annotated[Stack, Depends(stack_of)]
Caller = Annotated[Principal, Depends(caller_of)]
IfMatch = Annotated[int | None, Depends(_if_match)]
