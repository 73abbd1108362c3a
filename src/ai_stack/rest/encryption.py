"""Encryption at rest over REST: what of the project is sealed, and with which keys."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.models.answers import run_json
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import JsonRoute, Manager, Operator, UseStack
from ai_stack.services.encryption.projects import IN_THE_CLEAR, Sealing

router = APIRouter(prefix="/encryption", tags=["trust"], route_class=JsonRoute)


class ChangeBody(BaseModel):
    """How the bodies of the project are to be kept."""

    model_config = ConfigDict(extra="forbid")

    change: Literal["enable", "disable", "rotate"] = Field(
        description="in envelopes, in the clear, or in envelopes with a new data key"
    )


@router.get("")
async def status(stack: UseStack, caller: Manager) -> Response:
    """What of the project is sealed, what is still to be rewritten, and what cannot be sealed."""
    return respond(_json(await stack.encryption.status(caller)))


@router.post("", status_code=202)
async def change(stack: UseStack, caller: Manager, body: ChangeBody) -> Response:
    """Keep what is written from now on otherwise, and have a run rewrite what is there."""
    made = getattr(stack.encryption, body.change)
    return respond(run_json(await made(caller)), 202)


@router.post("/master")
async def rotate_master(stack: UseStack, caller: Operator) -> Response:
    """Wrap every data key with another master key; no document is touched."""
    id, in_place = await stack.encryption.rotate_master(caller)
    return respond({"master": id, "in_place": in_place, "file": stack.settings.master_file.name})


def _json(found: Sealing) -> dict[str, object]:
    return {
        "sealed": found.key_id is not None,
        "key": found.key_id,
        "master": found.master,
        "done": found.is_done,
        "rows": {
            kind: {"all": tally.all, "to_rewrite": tally.other}
            for kind, tally in found.counts.items()
        },
        "in_the_clear": IN_THE_CLEAR,
    }
