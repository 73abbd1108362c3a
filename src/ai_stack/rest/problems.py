"""Failures as application/problem+json (RFC 9457), translated once, here.

Under /v1 they have the form that OpenAI's clients know.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from ai_stack.errors import (
    REFUSED_BODIES,
    AIStackError,
    InvalidRequest,
    LimitExceeded,
    MethodNotAllowed,
    NotFound,
)
from ai_stack.rest.openai import errors as openai

log = logging.getLogger(__name__)
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="AI Stack"'}
KNOWN: Mapping[int, type[AIStackError]] = {
    NotFound.status: NotFound,
    MethodNotAllowed.status: MethodNotAllowed,
    **REFUSED_BODIES,
}


def install(app: FastAPI) -> None:
    """Answer every failure of this app as a problem."""
    app.add_exception_handler(AIStackError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


def problem(
    request_id: str, status: int, code: str, detail: str, fields: Mapping[str, str] | None = None
) -> Response:
    body = _body(request_id, status, code, detail, fields)
    headers = {"Retry-After": "1"} if status in (429, 503) else CHALLENGE if status == 401 else None
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


def problem_of(error: AIStackError, request_id: str) -> dict[str, object]:
    """A failure as the object that a problem is."""
    return _body(request_id, error.status, error.code, error.message, error.fields)


def invalid(error: ValidationError, place: str) -> InvalidRequest:
    """What is wrong with a part of a request, by the place where it stands."""
    fields = {_place((place, *e["loc"])): str(e["msg"]) for e in error.errors()[:20]}
    first = next(iter(fields.items()))
    return InvalidRequest(f"{first[0]}: {first[1]}.", fields=fields)


def _body(
    request_id: str, status: int, code: str, detail: str, fields: Mapping[str, str] | None
) -> dict[str, object]:
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    return {**body, "errors": fields} if fields else body


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, AIStackError)
    openai.tell(error, _id(request))
    if _is_openai(request):
        return _as_openai(request, error)
    answer = problem(_id(request), error.status, error.code, error.message, error.fields)
    if isinstance(error, LimitExceeded):
        answer.headers["Retry-After"] = str(error.opens_in_s)
    return answer


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = {_place(e["loc"]): str(e["msg"]) for e in error.errors()[:20]}
    first = next(iter(fields.items()), ("body", "it is not valid"))
    detail = f"{first[0]}: {first[1]}"
    if _is_openai(request):
        return _as_openai(request, InvalidRequest(f"{detail}.", fields=fields))
    return problem(_id(request), InvalidRequest.status, InvalidRequest.code, detail, fields)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = KNOWN[error.status_code].code if error.status_code in KNOWN else "http_error"
    phrase = HTTPStatus(error.status_code).description or HTTPStatus(error.status_code).phrase
    if _is_openai(request):
        answer = _as_openai(request, KNOWN.get(error.status_code, AIStackError)(phrase))
        answer.headers.update(error.headers or {})
        return answer
    answer = problem(_id(request), error.status_code, code, phrase)
    answer.headers.update(error.headers or {})
    return answer


async def _unknown(request: Request, error: Exception) -> Response:
    log.error("%s: unexpected failure", _id(request), exc_info=error)
    if _is_openai(request):
        return _as_openai(request, AIStackError())
    return problem(_id(request), 500, AIStackError.code, AIStackError().message)


def _is_openai(request: Request) -> bool:
    return str(request.scope["path"]).startswith("/v1/")


def _as_openai(request: Request, error: AIStackError) -> Response:
    body = orjson.dumps(openai.openai_error(error, _id(request)))
    answer = Response(body, openai.status_of(error), media_type="application/json")
    answer.raw_headers.extend(openai.headers_of(error))
    return answer


def _id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"
