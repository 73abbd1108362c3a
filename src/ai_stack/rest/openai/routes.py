"""Which paths there are under /v1, and what each does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from fastapi import APIRouter, Depends, Response
from starlette.types import ASGIApp

from ai_stack.models.inference import Operation
from ai_stack.rest.openai import errors, stored
from ai_stack.rest.openai import models as listing
from ai_stack.rest.openai.endpoint import Delegated, Endpoint, Request, direct
from ai_stack.services.inference import messages, responses
from ai_stack.services.inference.ranking import with_documents
from ai_stack.services.inference.reading import Answer
from ai_stack.services.inference.requests import FIELDS, REQUIRED, Field

PREFIX = "/v1"


@dataclass(frozen=True, slots=True)
class Path:
    """A path, its endpoint, and what the reference says of it."""

    path: str
    endpoint: Endpoint
    summary: str
    schema: dict[str, object]


def _schema(operation: Operation) -> dict[str, object]:
    return _form(FIELDS[operation], REQUIRED[operation])


def _form(fields: Mapping[str, Field], required: Sequence[str]) -> dict[str, object]:
    return {
        "type": "object",
        "required": list(required),
        "properties": {name: {"description": field.form} for name, field in fields.items()},
        "additionalProperties": False,
    }


async def _chat(request: Request) -> Answer:
    """Chat; a body in the form of the Responses API, as some clients send it, is taken too."""
    body = responses.as_chat(request.body) if responses.looks_like(request.body) else request.body
    return await request.stack.inference.open("chat", body, request.caller, request.options)


async def _embeddings(request: Request) -> Answer:
    embeddings = request.stack.text_embeddings
    return await embeddings.open(request.body, request.caller, request.options)


async def _responses(request: Request) -> Answer:
    return await request.stack.responses.open(request.body, request.caller, request.options)


async def _messages(request: Request) -> Answer:
    return await request.stack.messages.open(request.body, request.caller, request.options)


async def _count(request: Request) -> Answer:
    tokens = await request.stack.messages.count(request.body)
    return Answer(body=orjson.dumps({"input_tokens": len(tokens)}))


async def _rerank(request: Request) -> Answer:
    body, inference = request.body, request.stack.inference
    answer = await inference.open("rerank", body, request.caller, request.options)
    return await with_documents(answer, body) if body.get("return_documents") else answer


PATHS = (
    Path(
        "/chat/completions", Endpoint(_chat), "The next message of a conversation.", _schema("chat")
    ),
    Path("/completions", direct("completion"), "How a text goes on.", _schema("completion")),
    Path("/embeddings", Endpoint(_embeddings), "The vectors of texts.", _schema("embedding")),
    Path("/rerank", Endpoint(_rerank), "Texts in the order of a query.", _schema("rerank")),
    Path(
        "/responses",
        Endpoint(_responses),
        "A response, stored unless `store` is false, that others can follow.",
        _form(responses.FIELDS, ("input",)),
    ),
    Path(
        "/messages",
        Endpoint(_messages, errors.anthropic_error),
        "The next message of a conversation, in Anthropic's form.",
        _form(messages.FIELDS, ("max_tokens", "messages")),
    ),
    Path(
        "/messages/count_tokens",
        Endpoint(_count, errors.anthropic_error),
        "The tokens that a request to /v1/messages would have, exactly.",
        _form(messages.FIELDS, ("messages",)),
    ),
)

# Served before FastAPI, which describes them below.
HOT: dict[str, ASGIApp] = {PREFIX + path.path: path.endpoint for path in PATHS}


def create_router() -> APIRouter:
    """The routes of /v1."""
    router = APIRouter()
    router.include_router(listing.router)
    router.include_router(stored.router)
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
        dependencies=[Depends(path.endpoint.policy)],
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
