"""Skills as MCP serves them (SEP-2640): what each folder holds, with sizes and hashes.

https://modelcontextprotocol.io/seps/2640-skills-extension. A skill is `skill://<name>/SKILL.md`,
its other files lie beside it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PaginatedRequestParams, RequestParams

from ai_stack.errors import AIStackError, NotFound, TooLarge
from ai_stack.mcp.calls import Call, Context
from ai_stack.mcp.failures import protocol_error, resource_not_found
from ai_stack.models.skills import Listed, media_type_of
from ai_stack.services.skills import Skills
from ai_stack.skill.manifest import FILE, head_of

EXTENSION = "io.modelcontextprotocol/skills"
SETTINGS = {"directoryRead": True}
SCHEME, DIRECTORY, MARKDOWN = "skill://", "inode/directory", "text/markdown"
FRESH = {"ttlMs": 60_000, "cacheScope": "private"}
PAGE = 50


class SkillParams(RequestParams):
    """Which skill, by the URI of its SKILL.md."""

    uri: str


class DirectoryParams(PaginatedRequestParams):
    """Which folder of a skill."""

    uri: str


def uri_of(name: str, path: str = FILE) -> str:
    return f"{SCHEME}{quote(name, safe='')}/{quote(path)}"


def parts_of(uri: str) -> tuple[str, str]:
    """The skill's name and the path in its folder, empty for the folder itself."""
    name, _, path = uri.removeprefix(SCHEME).partition("/")
    return unquote(name), unquote(path).rstrip("/")


async def list_skills(context: Context, params: PaginatedRequestParams) -> dict[str, Any]:
    """`skills/list`."""
    call, after = Call.of(context), params.cursor or ""
    left = [skill.name for skill in await call.skills() if skill.name > after]
    entries = [await entry(call.stack.skills, name) for name in left[:PAGE]]
    shown = {"skills": entries, **FRESH}
    return {**shown, "nextCursor": left[PAGE - 1]} if len(left) > PAGE else shown


async def get_skill(context: Context, params: SkillParams) -> dict[str, Any]:
    """`skills/get`."""
    name, path = parts_of(params.uri)
    try:
        if not params.uri.startswith(SCHEME) or path != FILE:
            raise NotFound("There is no skill with this URI.")
        skills = Call.of(context).stack.skills
        return {"skill": await entry(skills, name), **FRESH}
    except AIStackError as error:
        raise protocol_error(error, {"uri": params.uri[:2000]}) from error


async def read_directory(context: Context, params: DirectoryParams) -> dict[str, Any]:
    """`resources/directory/read`: what lies directly in a folder of a skill."""
    name, folder = parts_of(params.uri)
    files = await _files(Call.of(context), params.uri, name)
    below = f"{folder}/" if folder else ""
    inside = [path.removeprefix(below) for path in files if path.startswith(below)]
    if not inside:
        raise MCPError(INVALID_PARAMS, "This is no folder of a skill.", {"uri": params.uri[:2000]})
    children = {rest.partition("/")[0]: "/" in rest for rest in sorted(inside)}
    listed = [
        _child(name, below + child, is_folder=is_folder) for child, is_folder in children.items()
    ]
    return {"resources": listed, **FRESH}


async def entry(skills: Skills, name: str) -> dict[str, Any]:
    """What `skills/list` tells of one skill: its head word for word, and a hash for each file."""
    files = await skills.contents(name)
    return {
        "uri": uri_of(name),
        "frontmatter": _json_of(head_of(files[FILE].decode())),
        "resources": [
            {
                "uri": uri_of(name, path),
                "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "size": len(content),
            }
            for path, content in files.items()
        ],
    }


def resource(skill: Listed) -> dict[str, Any]:
    """A skill in `resources/list`."""
    return {
        "uri": uri_of(skill.name),
        "name": skill.name,
        "description": skill.description,
        "mimeType": MARKDOWN,
    }


async def read(call: Call, uri: str) -> tuple[str, bytes]:
    """A file's media type and bytes."""
    name, path = parts_of(uri)
    try:
        return media_type_of(path), await call.stack.skills.file(name, path)
    except TooLarge as error:
        raise protocol_error(error) from error
    except AIStackError as error:
        raise resource_not_found(uri) from error


async def _files(call: Call, uri: str, name: str) -> Mapping[str, int]:
    if not uri.startswith(SCHEME):
        raise resource_not_found(uri)
    try:
        return await call.stack.skills.files(name)
    except AIStackError as error:
        raise resource_not_found(uri) from error


def _child(name: str, path: str, *, is_folder: bool) -> dict[str, Any]:
    kind = DIRECTORY if is_folder else media_type_of(path)
    return {"uri": uri_of(name, path), "name": path.rpartition("/")[2], "mimeType": kind}


def _json_of(head: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(head, default=str))
