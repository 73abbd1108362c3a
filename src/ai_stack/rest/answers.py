"""Values as HTTP responses."""

from collections.abc import Mapping

import orjson
from fastapi import Response

from ai_stack.models.documents import Document

JSON_TYPE = "application/json"


def respond(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, JSON_TYPE)


def etag(document: Document) -> dict[str, str]:
    return {"ETag": f'"{document.version}"'}
