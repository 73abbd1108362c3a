"""Files that runs made, as MCP serves them: `aidb://runs/{run_id}/artifacts/{name}`."""

from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from ai_stack.errors import AIStackError, TooLarge
from ai_stack.mcp.calls import Call
from ai_stack.mcp.failures import protocol_error, resource_not_found
from ai_stack.models.runs import Run

SCHEME, BETWEEN = "aidb://runs/", "/artifacts/"
LARGEST = 16 << 20
TEMPLATE = {
    "uriTemplate": f"{SCHEME}{{run_id}}{BETWEEN}{{name}}",
    "name": "artifact",
    "title": "A file that a run made",
    "description": "What run_skill made, by the URI that it told.",
}


def uri_of(run_id: UUID, name: str) -> str:
    return f"{SCHEME}{run_id}{BETWEEN}{quote(name, safe='')}"


def output_of(run: Run) -> dict[str, Any]:
    """What a run gave, its files with the URIs under which they are read."""
    output: dict[str, Any] = dict(run.output or {})
    files = output.get("artifacts")
    if run.kind != "skill" or not files:
        return output
    return {**output, "artifacts": [{**one, "uri": uri_of(run.id, one["name"])} for one in files]}


async def read(call: Call, uri: str) -> tuple[str, bytes]:
    """A file's media type and bytes; one that is too large for a message is fetched over REST."""
    run_id, _, name = uri.removeprefix(SCHEME).partition(BETWEEN)
    skills = call.stack.skills
    try:
        file = await skills.artifact(call.principal, UUID(run_id), unquote(name))
        if file.size_bytes > LARGEST:
            raise TooLarge(f"This file is large: GET /runs/{run_id}{BETWEEN}{name} has it.")
        pieces = [piece async for piece in skills.content(call.principal, UUID(run_id), file)]
    except TooLarge as error:
        raise protocol_error(error) from error
    except (AIStackError, ValueError) as error:
        raise resource_not_found(uri) from error
    return file.media_type, b"".join(pieces)
