"""How the nouns look in JSON."""

from collections.abc import Mapping

import orjson
from fastapi import Response

from ai_stack.models.documents import Document, DocumentPage
from ai_stack.models.search import SearchAnswer, SearchResult

JSON_TYPE = "application/json"


def respond(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, JSON_TYPE)


def document_json(document: Document) -> dict[str, object]:
    """A document; `error` is there only when indexing has failed."""
    shown: dict[str, object] = {
        "id": document.id,
        "content": document.content,
        "metadata": document.metadata,
        "created_at": document.created_at,
        "updated_at": document.updated_at,
        "state": document.state,
    }
    if document.error is not None:
        shown["error"] = document.error
    return shown


def page_json(page: DocumentPage) -> dict[str, object]:
    return {"items": [document_json(d) for d in page.items], "next_cursor": page.next_cursor}


def etag(document: Document) -> dict[str, str]:
    return {"ETag": f'"{document.version}"'}


def search_json(answer: SearchAnswer) -> dict[str, object]:
    """A search's answer; `degraded` is there only when something was left out."""
    shown: dict[str, object] = {
        "results": [_result_json(result) for result in answer.results],
        "took_ms": answer.took_ms,
        "cached": answer.cached,
    }
    if answer.degraded is not None:
        shown["degraded"] = answer.degraded
    return shown


def _result_json(result: SearchResult) -> dict[str, object]:
    return {
        "document": document_json(result.document),
        "score": result.score,
        "passages": result.passages,
    }
