"""Documents over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.errors import InvalidRequest
from ai_stack.models.answers import document_json, page_json
from ai_stack.models.documents import DocumentState, NewDocument
from ai_stack.rest.answers import etag, respond
from ai_stack.rest.filters import from_query
from ai_stack.rest.requests import IfMatch, JsonRoute, Reader, UseStack, Writer
from ai_stack.services.documents import Written

router = APIRouter(prefix="/documents", tags=["documents"], route_class=JsonRoute)

Wait = Annotated[bool, Query(description="Answer when searches find it, at most 30 s later.")]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="Repeat safely under the same key."),
]


class DocumentBody(BaseModel):
    """A document to store; `vector` replaces the embedder's, `id` is the caller's own key."""

    model_config = ConfigDict(extra="forbid")

    content: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    id: str | None = None
    vector: list[float] | None = None

    def document(self, id: str | None = None) -> NewDocument:
        return NewDocument(self.content, self.metadata, id or self.id, self.vector)


class BatchBody(BaseModel):
    """Documents to store, all of them or none."""

    model_config = ConfigDict(extra="forbid")

    documents: list[DocumentBody] = Field(min_length=1, max_length=1000)


@router.post("", status_code=201, responses={202: {"description": "Stored; not indexed yet."}})
async def add_documents(
    stack: UseStack,
    caller: Writer,
    body: DocumentBody | BatchBody,
    wait: Wait = True,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Store one document, or a batch of them: all or none."""
    batch = isinstance(body, BatchBody)
    new = (
        [d.document() for d in body.documents] if isinstance(body, BatchBody) else [body.document()]
    )
    written = await stack.documents.add(caller, new, wait=wait, idempotency_key=idempotency_key)
    status = 201 if written.settled else 202
    if batch:
        return respond({"items": [document_json(d) for d in written.documents]}, status)
    return _one(written, status)


@router.get("")
async def list_documents(
    stack: UseStack,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
    search: Annotated[str | None, Query(description="Words that the document has.")] = None,
    filter: Annotated[str | None, Query(description="A metadata filter, as JSON.")] = None,
    state: Annotated[DocumentState | None, Query(description="How its indexing is.")] = None,
) -> Response:
    """Documents in the order of their making, a page at a time."""
    page = await stack.documents.page(
        caller, limit=limit, cursor=cursor, search=search, filter=from_query(filter), state=state
    )
    return respond(page_json(page))


@router.post("/retry")
async def retry_failed(stack: UseStack, caller: Writer) -> Response:
    """Index the documents anew that could not be indexed."""
    return respond({"retried": await stack.documents.retry_failed(caller)})


@router.get("/{id:path}")
async def get_document(stack: UseStack, caller: Reader, id: str) -> Response:
    """One document."""
    document = await stack.documents.get(caller, id)
    return respond(document_json(document), headers=etag(document))


@router.patch("/{id:path}")
async def patch_document(
    stack: UseStack,
    caller: Writer,
    id: str,
    body: dict[str, Any],
    if_match: IfMatch,
    wait: Wait = True,
) -> Response:
    """Merge a change into a document (RFC 7396)."""
    return _one(await stack.documents.patch(caller, id, body, if_match=if_match, wait=wait))


@router.put("/{id:path}")
async def put_document(
    stack: UseStack,
    caller: Writer,
    id: str,
    body: DocumentBody,
    if_match: IfMatch,
    wait: Wait = True,
) -> Response:
    """Put another content and metadata in a document's place."""
    if body.id not in (None, id):
        raise InvalidRequest("The id in the body is not the one in the path.")
    return _one(
        await stack.documents.put(caller, id, body.document(id), if_match=if_match, wait=wait)
    )


@router.delete("/{id:path}", status_code=204)
async def delete_document(
    stack: UseStack, caller: Writer, id: str, if_match: IfMatch, wait: Wait = True
) -> Response:
    """Remove a document and its vectors."""
    await stack.documents.delete(caller, id, if_match=if_match, wait=wait)
    return Response(status_code=204)


def _one(written: Written, status: int | None = None) -> Response:
    document = written.documents[0]
    settled = status or (200 if written.settled else 202)
    return respond(document_json(document), settled, etag(document))
