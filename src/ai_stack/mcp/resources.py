"""Resources over MCP: the documents of the project, and the files of skills."""

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from mcp_types import PaginatedRequestParams, ReadResourceRequestParams

from ai_stack.errors import AIStackError, NotFound
from ai_stack.mcp import artifacts, manifests
from ai_stack.mcp.calls import Call, Context
from ai_stack.mcp.failures import protocol_error, resource_not_found
from ai_stack.models.documents import Document

DOCUMENTS = "aidb://documents/"
PAGE = 50
TITLES = ("title", "path", "name")
TEMPLATES = [
    {
        "uriTemplate": f"{DOCUMENTS}{{id}}",
        "name": "document",
        "title": "A document",
        "description": "The text of a stored document, by its id.",
        "mimeType": "text/plain",
    },
    {
        "uriTemplate": "skill://{name}/{+path}",
        "name": "skill",
        "title": "A file of a skill",
        "description": "SKILL.md tells how the skill is used; other files lie beside it.",
    },
    artifacts.TEMPLATE,
]


def document_uri(id: str) -> str:
    return DOCUMENTS + quote(id, safe="")


async def list_resources(context: Context, params: PaginatedRequestParams | None) -> dict[str, Any]:
    """Skills first, then documents, a page at a time."""
    call, cursor = Call.of(context), None if params is None else params.cursor
    skills: Sequence[dict[str, Any]] = ()
    if cursor is None:
        skills = [manifests.resource(one) for one in await call.skills()]
    try:
        page = await call.stack.documents.page(call.principal, limit=PAGE, cursor=cursor)
    except AIStackError as error:
        raise protocol_error(error) from error
    shown = {"resources": [*skills, *(_listed(one) for one in page.items)]}
    return shown if page.next_cursor is None else {**shown, "nextCursor": page.next_cursor}


async def list_templates(_: Context, __: object) -> dict[str, Any]:
    return {"resourceTemplates": TEMPLATES}


async def read_resource(context: Context, params: ReadResourceRequestParams) -> dict[str, Any]:
    """A document's text, a file of a skill, or one that a run made."""
    call, uri = Call.of(context), str(params.uri)
    if uri.startswith(manifests.SCHEME):
        return {"contents": [_contents(uri, *await manifests.read(call, uri))]}
    if uri.startswith(artifacts.SCHEME):
        return {"contents": [_contents(uri, *await artifacts.read(call, uri))]}
    document = await _document(call, uri)
    text = {"uri": uri, "mimeType": "text/plain", "text": document.content}
    return {"contents": [text]}


async def complete(context: Context, params: Any) -> dict[str, Any]:
    """Names of skills that begin as what was typed; documents are found by search."""
    values: list[str] = []
    if params.argument.name == "name":
        names = [skill.name for skill in await Call.of(context).skills()]
        values = [name for name in names if name.startswith(params.argument.value)]
    shown = {"values": values[:100], "total": len(values), "hasMore": len(values) > 100}
    return {"completion": shown}


async def _document(call: Call, uri: str) -> Document:
    if not uri.startswith(DOCUMENTS):
        raise resource_not_found(uri)
    try:
        return await call.stack.documents.get(call.principal, document_id(uri))
    except NotFound as error:
        raise resource_not_found(uri) from error
    except AIStackError as error:
        raise protocol_error(error) from error


def document_id(uri: str) -> str:
    return unquote(uri.removeprefix(DOCUMENTS))


def _listed(document: Document) -> dict[str, Any]:
    titles = (document.metadata.get(name) for name in TITLES)
    title = next((one for one in titles if isinstance(one, str) and one), None)
    return {
        "uri": document_uri(document.id),
        "name": document.id,
        "title": title or " ".join(document.content[:80].split()),
        "mimeType": "text/plain",
        "size": len(document.content.encode()),
        "annotations": {"lastModified": document.updated_at.isoformat()},
    }


def _contents(uri: str, media_type: str, content: bytes) -> dict[str, Any]:
    shown = {"uri": uri, "mimeType": media_type}
    try:
        return {**shown, "text": content.decode()}
    except UnicodeDecodeError:
        return {**shown, "blob": base64.b64encode(content).decode()}
