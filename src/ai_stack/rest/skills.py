"""Skills over REST: the list, one of them with its files, its runs and what they made."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.errors import Unsupported
from ai_stack.models.answers import skill_run_json
from ai_stack.models.runs import ENDED
from ai_stack.models.skills import media_type_of
from ai_stack.rest.answers import respond
from ai_stack.rest.multipart import read_form
from ai_stack.rest.requests import JsonRoute, Reader, SkillRunner, UseStack

router = APIRouter(tags=["skills"], route_class=JsonRoute)

CLOSED = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
FORM = {
    "type": "object",
    "required": ["files"],
    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
}


class ExecuteBody(BaseModel):
    """What a skill is to do, in the form of its `parameters`."""

    model_config = ConfigDict(extra="forbid")

    parameters: dict[str, Any] = Field(default_factory=dict)
    background: bool = Field(False, description="Answer at once, while it runs.")


@router.get("/skills")
async def list_skills(stack: UseStack, caller: Reader, query: str | None = None) -> Response:
    """All skills with what they take, what they may touch, and what is missing here.

    With `query` those that fit it, the best first.
    """
    found = await (stack.skills.items() if query is None else stack.skills.find(query))
    return respond({"items": [skill.json() for skill in found], "next_cursor": None})


@router.post(
    "/skills/files",
    status_code=201,
    openapi_extra={
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}
    },
)
async def give_files(stack: UseStack, caller: SkillRunner, request: Request) -> Response:
    """Give files for runs to come: each is then named `run:ID/NAME`; they are kept for a day."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise Unsupported("Files come as multipart/form-data.")
    run = await stack.uploads.keep(caller, read_form(kind, request.stream()))
    names = [file.name for file in await stack.skills.artifacts(caller, run.id)]
    return respond({"id": run.id, "files": [f"run:{run.id}/{name}" for name in names]}, 201)


@router.get("/skills/runs/{id}")
async def get_skill_run(stack: UseStack, caller: Reader, id: UUID) -> Response:
    """A run in the form that execute answers."""
    return respond(skill_run_json(await stack.runs.get(caller, id)))


@router.get("/skills/{name}")
async def get_skill(stack: UseStack, caller: Reader, name: str) -> Response:
    """One skill, with its instructions and the files of its folder."""
    return respond((await stack.skills.open(name)).json())


@router.get("/skills/{name}/files/{path:path}")
async def get_skill_file(stack: UseStack, caller: Reader, name: str, path: str) -> Response:
    """A file of a skill's folder, SKILL.md among them."""
    content = await stack.skills.file(name, path)
    return Response(content, media_type=media_type_of(path), headers=CLOSED)


@router.post(
    "/skills/{name}/execute", responses={202: {"description": "It runs, or waits for its turn."}}
)
async def execute_skill(
    stack: UseStack, caller: SkillRunner, name: str, body: ExecuteBody
) -> Response:
    """Run a skill. A run that failed answers 200 with its `error`, wrong parameters 422."""
    run = await stack.skills.execute(caller, name, body.parameters, background=body.background)
    status = 200 if run.status in ENDED else 202
    return respond(skill_run_json(run), status, {"Location": f"/runs/{run.id}"})


@router.get("/runs/{id}/artifacts")
async def list_artifacts(stack: UseStack, caller: Reader, id: UUID) -> Response:
    """The files that a run made, or that were given for runs."""
    files = await stack.skills.artifacts(caller, id)
    return respond({"items": [file.json() for file in files], "next_cursor": None})


@router.get("/runs/{id}/artifacts/{name:path}")
async def get_artifact(stack: UseStack, caller: Reader, id: UUID, name: str) -> Response:
    """One of these files. It is never shown as a page of this gateway, whatever it holds."""
    file = await stack.skills.artifact(caller, id, name)
    headers = {
        **CLOSED,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
        "Content-Length": str(file.size_bytes),
    }
    pieces: AsyncIterator[bytes] = stack.skills.content(caller, id, file)
    return StreamingResponse(pieces, media_type=file.media_type, headers=headers)
