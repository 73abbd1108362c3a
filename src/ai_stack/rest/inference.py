"""Models over REST: which are served, what they make of texts, and how much they were used."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.errors import InvalidRequest
from ai_stack.models.inference import PLAIN, ServedModel
from ai_stack.models.usage import Period, Use
from ai_stack.rest.answers import respond
from ai_stack.rest.openai.models import TokenizeBody
from ai_stack.rest.requests import Inferrer, JsonRoute, Known, Reader, UseStack
from ai_stack.stack import Stack

router = APIRouter(prefix="/inference", tags=["inference"], route_class=JsonRoute)

EMBEDDER = "embedder"
Limit = Annotated[int, Query(ge=1, le=1000)]
Moment = Annotated[datetime | None, Query(description="RFC 3339; UTC without an offset.")]


class EmbedBody(BaseModel):
    """Texts to embed, as `input` or `texts`."""

    model_config = ConfigDict(extra="forbid")

    input: str | list[str] | None = None
    texts: list[str] | None = None
    model: str | None = Field(None, description="the documents' own by default")
    dimensions: int | None = None

    def request(self) -> dict[str, Any]:
        given = [value for value in (self.input, self.texts) if value is not None]
        if len(given) != 1:
            raise InvalidRequest("Send either input or texts.", fields={"input": "missing"})
        asked = {"input": given[0], "model": self.model, "dimensions": self.dimensions}
        return {name: value for name, value in asked.items() if value is not None}


@router.get("/models")
async def list_models(stack: UseStack, caller: Known) -> Response:
    """The models that can be asked, the default one first, and which engines have them."""
    found = [_served_json(stack, model) for model in stack.inference.models()]
    ids = {one["id"] for one in found}
    own = [_model_json(m, [EMBEDDER]) for m in await stack.text_embeddings.served()]
    items = found + [one for one in own if one["id"] not in ids]
    return respond({"items": items, "next_cursor": None})


@router.post("/embed")
async def embed(stack: UseStack, caller: Inferrer, body: EmbedBody) -> Response:
    """The vectors of texts, in their order."""
    found = await stack.text_embeddings.vectors(body.request(), caller, PLAIN)
    rows = [one["embedding"] for one in found["data"]]
    shown = {
        "embeddings": rows,
        "model": found["model"],
        "dimensions": len(rows[0]) if rows else 0,
        "usage": found.get("usage"),
    }
    return respond(shown)


@router.post("/tokenize")
async def tokenize(stack: UseStack, caller: Inferrer, body: TokenizeBody) -> Response:
    """The tokens of a text, or of messages as the model's template writes them."""
    model, tokens = await stack.inference.tokens(body.model, body.subject())
    return respond({"model": model, "tokens": tokens, "count": len(tokens)})


@router.get("/usage")
async def usage(
    stack: UseStack,
    caller: Reader,
    since: Moment = None,
    until: Moment = None,
    model: str | None = None,
    group: Period = "hour",
    limit: Limit = 100,
    cursor: str | None = None,
) -> Response:
    """Requests, tokens, time and cost by hour, day or model, and the totals of all pages."""
    report = await stack.usage.report(
        caller, since=since, until=until, model=model, group=group, limit=limit, cursor=cursor
    )
    shown = {
        "since": report.since,
        "until": report.until,
        "items": [_use_json(use) for use in report.items],
        "totals": _use_json(report.totals),
        "next_cursor": report.next_cursor,
    }
    return respond(shown)


def _served_json(stack: Stack, model: ServedModel) -> dict[str, object]:
    serving = stack.inference.fleet.serving(model.id)
    slots = [one.slots for one in serving.values() if one.slots is not None]
    shown = _model_json(model, list(serving))
    return {**shown, "slots": sum(slots) if slots else None}


def _model_json(model: ServedModel, engines: list[str]) -> dict[str, object]:
    return {
        "id": model.id,
        "context_length": model.context_length,
        "slots": model.slots,
        "operations": sorted(model.operations),
        "loaded": model.loaded,
        "engines": engines,
    }


def _use_json(use: Use) -> dict[str, object]:
    named = {"start": use.start, "model": use.model}
    return {
        **{name: value for name, value in named.items() if value is not None},
        "requests": use.requests,
        "cached": use.cached,
        "prompt_tokens": use.prompt_tokens,
        "completion_tokens": use.completion_tokens,
        "cost": use.cost,
        "mean_ms": use.mean_ms,
        "max_ms": use.max_ms,
        "repaired_calls": use.repaired_calls,
        "failed_calls": use.failed_calls,
    }
