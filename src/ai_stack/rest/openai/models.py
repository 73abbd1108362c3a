"""The models that are served, and how many tokens a text has."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.errors import InvalidRequest, ModelNotFound
from ai_stack.models.inference import ServedModel
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import Inferrer, JsonRoute, Known, UseStack
from ai_stack.stack import Stack

router = APIRouter(prefix="/v1", tags=["openai"], route_class=JsonRoute)


class TokenizeBody(BaseModel):
    """A text, or chat messages as the model's template writes them."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    content: str | None = Field(None, description="the text; `prompt` and `text` are taken too")
    prompt: str | None = None
    text: str | None = None
    messages: list[dict[str, Any]] | None = None

    def subject(self) -> str | list[Any]:
        given = [v for v in (self.content, self.prompt, self.text, self.messages) if v is not None]
        if len(given) != 1:
            raise InvalidRequest("Send either content or messages.", fields={"content": "missing"})
        return given[0]


@router.get("/models")
async def list_models(stack: UseStack, caller: Known) -> Response:
    """The models that can be asked, the default one first."""
    return respond({"object": "list", "data": [model_json(m) for m in await _served(stack)]})


@router.get("/models/{id:path}")
async def get_model(stack: UseStack, caller: Known, id: str) -> Response:
    """One model."""
    for model in await _served(stack):
        if model.id == id:
            return respond(model_json(model))
    raise ModelNotFound(
        f"The model {id[:200]!r} is not served here: GET /v1/models lists those that are."
    )


@router.post("/tokenize")
async def tokenize(stack: UseStack, caller: Inferrer, body: TokenizeBody) -> Response:
    """The tokens of a text, or of messages as the engine will see them."""
    model, tokens = await stack.inference.tokens(body.model, body.subject())
    return respond({"model": model, "tokens": tokens, "count": len(tokens)})


async def _served(stack: Stack) -> list[ServedModel]:
    """Those of the engines, then those of the embedder that no engine has."""
    found = stack.inference.models()
    ids = {model.id for model in found}
    return found + [m for m in await stack.text_embeddings.served() if m.id not in ids]


def model_json(model: ServedModel) -> dict[str, object]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "context_length": model.context_length,
        "loaded": model.loaded,
    }
