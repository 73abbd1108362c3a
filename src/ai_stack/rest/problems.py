"""Failures as application/problem+json (RFC 9457), translated once, here."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ai_stack.errors import AIStackError, InvalidRequest, NotFound, TooBusy, TooLarge, Unavailable

log = logging.getLogger(__name__)
CODES = {404: NotFound.code, 405: "method_not_allowed", 413: TooLarge.code, 429: TooBusy.code}


def install(app: FastAPI) -> None:
    """Answer every failure of this app as a problem."""
    app.add_exception_handler(AIStackError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


def problem(
    request_id: str, status: int, code: str, detail: str, fields: Mapping[str, str] | None = None
) -> Response:
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    if fields:
        body["errors"] = fields
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, AIStackError)
    if error.status >= 500 and not isinstance(error, Unavailable | TooBusy):
        log.error("%s: %s", _id(request), error, exc_info=error)
    return problem(_id(request), error.status, error.code, error.message, error.fields)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = {_place(e["loc"]): str(e["msg"]) for e in error.errors()[:20]}
    first = next(iter(fields.items()), ("body", "it is not valid"))
    detail = f"{first[0]}: {first[1]}"
    return problem(_id(request), InvalidRequest.status, InvalidRequest.code, detail, fields)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "http_error")
    phrase = HTTPStatus(error.status_code).description or HTTPStatus(error.status_code).phrase
    answer = problem(_id(request), error.status_code, code, phrase)
    answer.headers.update(error.headers or {})
    return answer


async def _unknown(request: Request, error: Exception) -> Response:
    log.error("%s: unexpected failure", _id(request), exc_info=error)
    return problem(_id(request), 500, AIStackError.code, AIStackError().message)


def _id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"
