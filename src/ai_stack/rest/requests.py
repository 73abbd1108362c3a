"""What every REST request brings: JSON read by orjson, the stack, and who asks.

Every route says who may ask it, by the type of its `caller` or by PUBLIC; a test finds one that
does not.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import orjson
from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Scope

from ai_stack.errors import AIStackError, Forbidden, InvalidRequest, Unauthenticated
from ai_stack.models.principals import Principal
from ai_stack.models.principals import Scope as Permission
from ai_stack.rest import limits
from ai_stack.rest.cookies import check_origin, is_explicit
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
    """A route that reads its body as JsonRequest does, once it knows that the caller may ask."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        asked = (dependency.call for dependency in self.dependant.dependencies)
        policies = [call for call in asked if isinstance(call, Needs)]

        async def with_orjson(request: Request) -> Response:
            read = JsonRequest(request.scope, request.receive)
            if self.body_field is not None:
                for policy in policies:
                    await policy(request)
                await read.read()
            return await handle(read)

        return with_orjson


async def stack_of(request: Request) -> Stack:
    """The stack that the server opened."""
    return cast(Stack, request.state.stack)


async def caller_of(scope: Scope) -> Principal:
    """Who asks, by what the gate has gathered: the one resolver of every face.

    Forbidden for a page of another site that has a browser ask in its user's name;
    LimitExceeded for who has asked too much.
    """
    state = scope["state"]
    stack: Stack = state["stack"]
    carried = state.get("carried", ())
    if state.get("abroad") and not is_explicit(carried):
        raise Forbidden("Pages of other sites cannot ask this gateway.")
    if stack.identity.is_required:
        check_origin(scope, carried, stack.settings.public_url)
    verdicts = stack.telemetry.counted.authentications
    try:
        principal = stack.identity.known(carried) or await stack.identity.resolve(carried)
    except AIStackError as error:
        verdicts.add(_verdict(error, carried))
        raise
    if "caller" not in state:  # a route that reads a body asks twice
        verdicts.add("accepted")
    state["caller"] = principal
    if principal.limits and not limits.is_admitted(scope, stack.limits, principal):
        await limits.lease(scope)
    return principal


def _verdict(error: AIStackError, carried: Sequence[tuple[bytes, bytes]]) -> str:
    """Why nobody was let in, in a word."""
    if isinstance(error, Unauthenticated):
        return "invalid" if any(name != b"x-project" for name, _ in carried) else "missing"
    return "project" if isinstance(error, Forbidden) else "unavailable"


@dataclass(frozen=True, slots=True)
class Needs:
    """A route's policy: what kind of operation it is; None for whoever is known."""

    scope: Permission | None

    async def __call__(self, request: Request) -> Principal:
        """The caller; Unauthenticated, or Forbidden without the scope."""
        return await self.caller(request.scope)

    async def caller(self, scope: Scope) -> Principal:
        principal = await caller_of(scope)
        if self.scope is not None and not principal.allows(self.scope):
            scope["state"]["stack"].telemetry.counted.authentications.add("scope")
            principal.require(self.scope)
        return principal


@dataclass(frozen=True, slots=True)
class Anybody:
    """The policy of a route that everybody may ask, known or not."""

    async def __call__(self) -> None:
        """Nobody is turned away."""


async def _if_match(if_match: Annotated[str | None, Header()] = None) -> int | None:
    """The version that If-Match names; None for none and for `*`."""
    if if_match is None or if_match.strip() == "*":
        return None
    try:
        return int(if_match.strip().strip('"'))
    except ValueError as error:
        raise InvalidRequest("If-Match must be the ETag of a document.") from error


UseStack = Annotated[Stack, Depends(stack_of)]
PUBLIC = Depends(Anybody())
INFERRING = Needs(Permission.INFER)
MAY_INFER = Depends(INFERRING)
Known = Annotated[Principal, Depends(Needs(None))]
Reader = Annotated[Principal, Depends(Needs(Permission.READ))]
Writer = Annotated[Principal, Depends(Needs(Permission.WRITE))]
Inferrer = Annotated[Principal, Depends(Needs(Permission.INFER))]
SkillRunner = Annotated[Principal, Depends(Needs(Permission.SKILLS))]
AgentRunner = Annotated[Principal, Depends(Needs(Permission.AGENT))]
Manager = Annotated[Principal, Depends(Needs(Permission.MANAGE))]
Operator = Annotated[Principal, Depends(Needs(Permission.OPERATE))]
IfMatch = Annotated[int | None, Depends(_if_match)]
