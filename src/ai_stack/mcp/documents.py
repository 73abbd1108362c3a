"""Documents over MCP."""

from typing import Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ai_stack.errors import InvalidRequest
from ai_stack.mcp.calls import Call
from ai_stack.mcp.search import FILTER
from ai_stack.mcp.tools import READS, Answer, Arguments, Hints, Tool
from ai_stack.models.documents import Document, NewDocument
from ai_stack.models.filters import parse_filter
from ai_stack.models.principals import Scope

PAGE, LONGEST, EXCERPT = 20, 50_000, 200


class Id(Arguments):
    """Which document."""

    id: str = Field(description="The document's id, as search or list_documents tells it.")


class ReadArguments(Id):
    """Which document, and which part of a long one."""

    start: int = Field(0, ge=0, description="Where to begin, in characters.")
    length: int = Field(20_000, ge=1, le=LONGEST, description="How many characters to return.")


class ListArguments(Arguments):
    """Which documents."""

    limit: int = Field(PAGE, ge=1, le=100)
    cursor: str | None = Field(None, description="next_cursor of the page before.")
    search: str | None = Field(None, description="Words that the document has.")
    filter: dict[str, Any] | None = Field(None, description=FILTER)


class NewArguments(Arguments):
    """One document to store."""

    content: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    id: str | None = Field(None, description="Your own key, such as a path; it must be free.")


class AddArguments(Arguments):
    """Documents to store."""

    documents: list[NewArguments] = Field(min_length=1, max_length=100)


class UpdateArguments(Id):
    """What to change."""

    content: str | None = Field(None, description="The new text, in place of the old one.")
    metadata: dict[str, Any] | None = Field(
        None, description="Merged into what is there; null removes a key."
    )


class Short(TypedDict):
    id: str
    metadata: dict[str, Any]
    characters: int
    excerpt: str
    state: Literal["pending", "indexed", "failed"]
    updated_at: str


class Read(TypedDict):
    id: str
    metadata: dict[str, Any]
    content: str
    start: int
    characters: int
    next_start: NotRequired[int]
    updated_at: str


class Page(TypedDict):
    items: list[Short]
    next_cursor: NotRequired[str]


class Stored(TypedDict):
    items: list[Short]
    searchable: bool


class Deleted(TypedDict):
    deleted: str


async def read_document(call: Call, asked: ReadArguments) -> Answer:
    """Read a document's text by its id. A long one comes in parts: go on at next_start."""
    document = await call.stack.documents.get(call.principal, asked.id)
    end = asked.start + asked.length
    shown: dict[str, Any] = {
        "id": document.id,
        "metadata": document.metadata,
        "content": document.content[asked.start : end],
        "start": asked.start,
        "characters": len(document.content),
        "updated_at": document.updated_at,
    }
    return shown if end >= len(document.content) else {**shown, "next_start": end}


async def list_documents(call: Call, asked: ListArguments) -> Answer:
    """List documents in the order of their making, with the beginning of each."""
    page = await call.stack.documents.page(
        call.principal,
        limit=asked.limit,
        cursor=asked.cursor,
        search=asked.search,
        filter=parse_filter(asked.filter),
    )
    shown: dict[str, Any] = {"items": [_short(one) for one in page.items]}
    return shown if page.next_cursor is None else {**shown, "next_cursor": page.next_cursor}


async def add_documents(call: Call, asked: AddArguments) -> Answer:
    """Store documents, all of them or none, so that search finds them. An id that is taken is an
    error: update_document changes what is there."""
    new = [NewDocument(one.content, one.metadata, one.id) for one in asked.documents]
    written = await call.stack.documents.add(call.principal, new)
    return {"items": [_short(one) for one in written.documents], "searchable": written.settled}


async def update_document(call: Call, asked: UpdateArguments) -> Answer:
    """Change a document's text, its metadata, or both."""
    change = asked.model_dump(include={"content", "metadata"}, exclude_none=True)
    if not change:
        raise InvalidRequest("Give content, metadata or both.")
    written = await call.stack.documents.patch(call.principal, asked.id, change)
    return {"items": [_short(one) for one in written.documents], "searchable": written.settled}


async def delete_document(call: Call, asked: Id) -> Answer:
    """Delete a document for good."""
    await call.stack.documents.delete(call.principal, asked.id)
    return {"deleted": asked.id}


def _short(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "metadata": document.metadata,
        "characters": len(document.content),
        "excerpt": document.content[:EXCERPT],
        "state": document.state,
        "updated_at": document.updated_at,
    }


READING = (
    Tool(read_document, "Read a document", ReadArguments, Read, READS, scope=Scope.READ),
    Tool(list_documents, "List documents", ListArguments, Page, READS, scope=Scope.READ),
)
CHANGES = Hints(destroys=True, repeats=True)
WRITING = (
    Tool(add_documents, "Add documents", AddArguments, Stored, Hints(), scope=Scope.WRITE),
    Tool(update_document, "Change a document", UpdateArguments, Stored, CHANGES, scope=Scope.WRITE),
    Tool(delete_document, "Delete a document", Id, Deleted, CHANGES, scope=Scope.WRITE),
)
