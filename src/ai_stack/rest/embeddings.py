"""Embedding models over REST: which have vectors, and which one answers."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.database.embedding_models import StoredModel
from ai_stack.models.answers import run_json
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import JsonRoute, Operator, Reader, UseStack

router = APIRouter(prefix="/embeddings/models", tags=["embeddings"], route_class=JsonRoute)


class ModelBody(BaseModel):
    """A model by its name, or by its key where several have the name."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f]*$")


class MigrateBody(ModelBody):
    """The model to build."""

    switch: bool = Field(True, description="Have it answer when it is complete.")


@router.get("")
async def list_models(stack: UseStack, caller: Reader) -> Response:
    """The models that have vectors, and how many of all chunks each has."""
    found = await stack.embeddings.all()
    items = [{**_model_json(m.stored), "embedded": m.embedded, "chunks": m.chunks} for m in found]
    return respond({"items": items, "next_cursor": None})


@router.post("/migrate", status_code=202)
async def migrate(stack: UseStack, caller: Operator, body: MigrateBody) -> Response:
    """Embed everything by another model while the present one answers, then switch: a run."""
    run = await stack.runs.start(caller, "migrate", {"model": body.model, "switch": body.switch})
    return respond(run_json(run), 202)


@router.post("/switch")
async def switch(stack: UseStack, caller: Operator, body: ModelBody) -> Response:
    """Have a model answer that is complete; the one before it is kept as the way back."""
    return respond(_model_json(await stack.embeddings.switch(body.model)))


@router.post("/back")
async def back(stack: UseStack, caller: Operator) -> Response:
    """Have the model before the active one answer again."""
    return respond(_model_json(await stack.embeddings.back()))


@router.delete("/{name:path}", status_code=204)
async def drop(stack: UseStack, caller: Operator, name: str) -> Response:
    """Forget a model that does not answer, with its vectors and its index."""
    await stack.embeddings.drop(name)
    return Response(status_code=204)


def _model_json(stored: StoredModel) -> dict[str, object]:
    return {
        "model": stored.model.name,
        "key": stored.model.key,
        "state": stored.state,
        "dimensions": stored.model.dimensions,
        "max_tokens": stored.model.max_tokens,
    }
