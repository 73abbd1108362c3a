"""Stored responses, and how many tokens a request would have."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response

from ai_stack.errors import InvalidRequest
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import Inferrer, JsonRoute, UseStack

router = APIRouter(prefix="/v1", tags=["openai"], route_class=JsonRoute)

Limit = Annotated[int, Query(ge=1, le=100)]
Request = Annotated[dict[str, Any], Body()]


@router.get("/responses/{id}")
async def get_response(
    stack: UseStack, caller: Inferrer, id: str, stream: bool = False
) -> Response:
    """A stored response, whole; `stream` is refused."""
    if stream:
        raise InvalidRequest("A stored response is not streamed again.", fields={"stream": "false"})
    return respond(await stack.responses.stored.get(caller, id))


@router.delete("/responses/{id}")
async def delete_response(stack: UseStack, caller: Inferrer, id: str) -> Response:
    """Forget a stored response; what follows it cannot be followed any more."""
    await stack.responses.stored.delete(caller, id)
    return respond({"id": id, "object": "response.deleted", "deleted": True})


@router.get("/responses/{id}/input_items")
async def list_input_items(
    stack: UseStack,
    caller: Inferrer,
    id: str,
    limit: Limit = 20,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """What the request of a stored response brought, a page at a time."""
    stored = stack.responses.stored
    page = await stored.input_items(caller, id, after=after, limit=limit, order=order)
    ids = [item["id"] for item in page.items]
    return respond(
        {
            "object": "list",
            "data": page.items,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
            "has_more": page.has_more,
        }
    )


@router.post("/responses/input_tokens")
async def count_response_tokens(stack: UseStack, caller: Inferrer, body: Request) -> Response:
    """The tokens that a request to /v1/responses would have, exactly."""
    tokens = await stack.responses.count(body)
    return respond({"object": "response.input_tokens", "input_tokens": len(tokens)})
