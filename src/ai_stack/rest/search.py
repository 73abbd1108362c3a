"""Search over REST."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.routing import Route

from ai_stack.errors import TooLarge
from ai_stack.models.answers import search_json
from ai_stack.models.filters import parse_filter
from ai_stack.models.principals import Scope
from ai_stack.models.search import SearchMode, SearchRequest
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import JsonRoute, Needs, Reader, UseStack, stack_of

router = APIRouter(prefix="/search", tags=["search"], route_class=JsonRoute)

MAX_BODY = 1 << 20  # a vector of 4000 numbers and a filter of 256 terms are far below


class SearchBody(BaseModel):
    """What to search for: text, or a vector of the active model."""

    model_config = ConfigDict(extra="forbid")

    query: str | None = None
    vector: list[float] | None = None
    limit: int = Field(10, ge=1, le=100)
    offset: int = Field(0, ge=0, le=900)
    filter: dict[str, Any] | None = None
    mode: SearchMode | None = Field(None, description="hybrid by default, semantic for a vector")
    rerank: bool = False
    min_score: float | None = None
    hybrid_weight: float | None = Field(
        None, ge=0, le=1, description="weight of keywords, in place of AI_STACK_HYBRID_WEIGHT"
    )

    def request(self) -> SearchRequest:
        return SearchRequest(
            query=self.query,
            vector=self.vector,
            limit=self.limit,
            offset=self.offset,
            filter=parse_filter(self.filter),
            mode=self.mode or ("hybrid" if self.vector is None else "semantic"),
            rerank=self.rerank,
            min_score=self.min_score,
            hybrid_weight=self.hybrid_weight,
        )


@router.post(
    "/semantic",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": SearchBody.model_json_schema()}},
        }
    },
)
async def search(stack: UseStack, caller: Reader, request: Request) -> Response:
    """The best documents for a query, with the passages that were found in them.

    The body goes from bytes to a request in one step.
    """
    try:
        body = SearchBody.model_validate_json(await _bounded(request))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    return respond(search_json(await stack.search.search(body.request(), caller)))


class Direct(Route):
    """A route without FastAPI's own work; its policy is asked before anything else."""

    policy = Needs(Scope.READ)

    def __init__(self, path: str) -> None:
        super().__init__(path, self._serve, methods=["POST"])

    async def _serve(self, request: Request) -> Response:
        caller = await self.policy(request)
        return await search(await stack_of(request), caller, request)


# The hot path: FastAPI describes the route above, this serves it.
HOT = Direct("/search/semantic")


async def _bounded(request: Request) -> bytes:
    body = await request.body()
    if len(body) > MAX_BODY:
        raise TooLarge
    return body
