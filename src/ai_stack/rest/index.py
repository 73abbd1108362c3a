"""The vector index over REST: written anew, checked and repaired, each as a run."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.models.answers import run_json
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import JsonRoute, Operator, UseStack

router = APIRouter(prefix="/index", tags=["index"], route_class=JsonRoute)


class ReindexBody(BaseModel):
    """How to write the index anew."""

    model_config = ConfigDict(extra="forbid")

    fresh: bool = Field(False, description="Drop it first: searches miss documents meanwhile.")


class FsckBody(BaseModel):
    """Whether to repair what is found."""

    model_config = ConfigDict(extra="forbid")

    repair: bool = False


@router.post("/reindex", status_code=202)
async def reindex(stack: UseStack, caller: Operator, body: ReindexBody) -> Response:
    """Write the index of every model from the stored vectors, without embedding: a run."""
    run = await stack.runs.start(caller, "reindex", {"fresh": body.fresh})
    return respond(run_json(run), 202)


@router.post("/fsck", status_code=202)
async def fsck(stack: UseStack, caller: Operator, body: FsckBody) -> Response:
    """Compare documents, chunks, vectors and index with each other: a run."""
    run = await stack.runs.start(caller, "fsck", {"repair": body.repair})
    return respond(run_json(run), 202)
