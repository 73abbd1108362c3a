"""Imports and exports over REST."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ai_stack.errors import InvalidRequest, TooLarge, Unsupported
from ai_stack.models.answers import run_json
from ai_stack.models.runs import ENDED, Run
from ai_stack.rest.answers import respond
from ai_stack.rest.filters import from_query
from ai_stack.rest.multipart import read_form
from ai_stack.rest.requests import Reader, UseStack, Writer

router = APIRouter(prefix="/documents", tags=["documents"])

WAIT_S = 30.0
MAX_BODY = 2 << 20


class UrlBody(BaseModel):
    """A URL to import, the prefix of its key and metadata to add."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2048)
    prefix: str = Field("", max_length=512)
    metadata: dict[str, Any] = Field(default_factory=dict)


FORM = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "prefix": {"type": "string", "description": "Begins the keys of the documents."},
        "metadata": {"type": "string", "description": "JSON that each document's gets added."},
    },
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": FORM},
            "application/json": {"schema": UrlBody.model_json_schema()},
        },
    }
}


@router.post(
    "/import",
    status_code=202,
    openapi_extra=BODY,
    responses={200: {"description": "The run, ended within the wait."}},
)
async def import_documents(
    stack: UseStack,
    caller: Writer,
    request: Request,
    wait: Annotated[bool, Query(description="Answer when it ended, at most 30 s later.")] = False,
) -> Response:
    """Import files (multipart) or what a URL answers (JSON): a run, with a state for each file.

    A document's key is the prefix and the file's path; the same path again replaces it. The
    lines of an export (.jsonl) become the documents that they were.
    """
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        run = await stack.uploads.receive(caller, read_form(kind, request.stream()))
    elif kind.lower().startswith("application/json"):
        body = await _url_body(request)
        run = await stack.uploads.fetch(
            caller, body.url, prefix=body.prefix, metadata=body.metadata
        )
    else:
        raise Unsupported("An import is multipart/form-data with files, or JSON with a url.")
    if wait:
        run = await stack.runs.wait(caller, run.id, WAIT_S)
    return _answer(run)


def _answer(run: Run) -> Response:
    status = 200 if run.status in ENDED else 202
    return respond(run_json(run), status, {"Location": f"/runs/{run.id}"})


async def _url_body(request: Request) -> UrlBody:
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > MAX_BODY:
            raise TooLarge
    try:
        return UrlBody.model_validate(orjson.loads(taken))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not JSON.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise InvalidRequest(f"{place}: {first['msg']}") from error


@router.get("/export", responses={200: {"content": {"application/x-ndjson": {}}}})
async def export_documents(
    stack: UseStack,
    caller: Reader,
    filter: Annotated[str | None, Query(description="A metadata filter, as JSON.")] = None,
) -> Response:
    """All documents, a JSON object a line, which an import takes back as they were."""
    lines = stack.exports.lines(caller, from_query(filter))
    first = await anext(lines, b"")
    headers = {"Content-Disposition": 'attachment; filename="documents.jsonl"'}
    return StreamingResponse(
        _body(first, lines), media_type="application/x-ndjson", headers=headers
    )


async def _body(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
