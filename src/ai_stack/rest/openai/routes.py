"""Which paths there are under /v1, and what each does."""

from dataclasses import dataclass

from fastapi import APIRouter, Response
from starlette.types import ASGIApp

from ai_stack.models.inference import Operation
from ai_stack.rest.openai import models
from ai_stack.rest.openai.endpoint import Delegated, Endpoint, Request, direct
from ai_stack.services.inference.reading import Answer
from ai_stack.services.inference.requests import FIELDS, REQUIRED

PREFIX = "/v1"


@dataclass(frozen=True, slots=True)
class Path:
    """A path, its endpoint, and what the reference says of it."""

    path: str
    endpoint: Endpoint
    summary: str
    schema: dict[str, object]


def _schema(operation: Operation) -> dict[str, object]:
    fields = FIELDS[operation]
    return {
        "type": "object",
        "required": list(REQUIRED[operation]),
        "properties": {name: {"description": field.form} for name, field in fields.items()},
        "additionalProperties": False,
    }


async def _embeddings(request: Request) -> Answer:
    embeddings = request.stack.text_embeddings
    return await embeddings.open(request.body, request.caller, request.options)


PATHS = (
    Path(
        "/chat/completions", direct("chat"), "The next message of a conversation.", _schema("chat")
    ),
    Path("/completions", direct("completion"), "How a text goes on.", _schema("completion")),
    Path("/embeddings", Endpoint(_embeddings), "The vectors of texts.", _schema("embedding")),
    Path("/rerank", direct("rerank"), "Texts in the order of a query.", _schema("rerank")),
)

# Served before FastAPI, which describes them below.
HOT: dict[str, ASGIApp] = {PREFIX + path.path: path.endpoint for path in PATHS}


def create_router() -> APIRouter:
    """The routes of /v1."""
    router = APIRouter()
    router.include_router(models.router)
    for path in PATHS:
        _describe(router, path)
    return router


def _describe(router: APIRouter, path: Path) -> None:
    async def serve() -> Response:
        return Delegated(path.endpoint)

    router.add_api_route(
        PREFIX + path.path,
        serve,
        methods=["POST"],
        tags=["openai"],
        summary=path.summary,
        description=path.summary,
        operation_id=path.path.strip("/").replace("/", "_"),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": path.schema}},
            }
        },
    )
