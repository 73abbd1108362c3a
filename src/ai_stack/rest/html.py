"""Pages for people who sign in: plain HTML without a script, which no other page may frame.

What they show is escaped, and their forms are answered to this gateway's own pages alone.
"""

import base64
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from ai_stack.errors import AIStackError, Forbidden, InvalidRequest, LimitExceeded, Unauthenticated
from ai_stack.models.trust import Credential
from ai_stack.rest import cookies
from ai_stack.services.auth.credentials import LOGIN, read
from ai_stack.services.auth.resources import own_address
from ai_stack.stack import Stack

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 26rem; margin: 10vh auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
label, input, button, .button { display: block; box-sizing: border-box; width: 100%; }
input, button, .button { font: inherit; padding: .6rem; margin: .3rem 0 .9rem; }
button, .button { border: 1px solid; border-radius: .3rem; text-align: center; color: inherit;
  background: none; text-decoration: none; cursor: pointer; }
code { font-size: 1.4rem; letter-spacing: .1em; }
dt { font-weight: bold; } dd { margin: 0 0 .6rem; overflow-wrap: anywhere; }
[role=alert] { border-left: .3rem solid #c33; padding-left: .8rem; }
"""
DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{DIGEST}'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer a browser would hide from us that a form is our own.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LARGEST, MOST_FIELDS = 16 << 10, 20


def page(
    template: str,
    /,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **shown: object,
) -> Response:
    """A page by the name of its template."""
    content = _templates().get_template(f"{template}.html").render(style=STYLE, **shown)
    return HTMLResponse(content, status, {**HEADERS, **(headers or {})})


def moved(address: str, *set_cookies: str) -> Response:
    """Send a browser on, by GET, with these cookies."""
    answer = Response(status_code=303, headers={**HEADERS, "Location": address})
    for cookie in set_cookies:
        answer.headers.append("Set-Cookie", cookie)
    return answer


def refused(error: AIStackError) -> Response:
    """A failure, to a person."""
    headers = {}
    if isinstance(error, LimitExceeded):
        headers["Retry-After"] = str(error.opens_in_s)
    return page("refused", error.status, headers, message=error.message)


class PageRoute(APIRoute):
    """A route whose failures are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except AIStackError as error:
                return refused(error)

        return told


async def form(request: Request) -> dict[str, str]:
    """The fields of a form that a page of this gateway has sent; Forbidden for another's."""
    stack: Stack = request.state.stack
    if not cookies.is_own(request.scope, stack.settings.public_url):
        raise Forbidden(cookies.FOREIGN)
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > LARGEST:
            raise InvalidRequest("This form is too large.")
    try:
        return dict(parse_qsl(content.decode(), strict_parsing=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise InvalidRequest("This is no form of ours.") from None


async def person_of(request: Request) -> tuple[Credential, str] | None:
    """Who has signed in in this browser, and the login; None for nobody.

    A key or a token is nobody here: who holds one could become more than it allows.
    """
    stack: Stack = request.state.stack
    try:
        carried = read(request.state.carried)
        if not carried.by_cookie or LOGIN.fullmatch(carried.token or "") is None:
            return None
        return await stack.identity.login(carried)
    except Unauthenticated:
        return None


def here(request: Request) -> str:
    """The gateway's own address, as this browser or shell reaches it."""
    stack: Stack = request.state.stack
    host = request.headers["host"].lower()
    return own_address(stack.settings.public_url, request.url.scheme, host)


def address_of(request: Request) -> str:
    """Whose attempts are counted together; what comes by a socket of this machine is one."""
    return "" if request.client is None else request.client.host


@cache
def _templates() -> Environment:
    loader = PackageLoader("ai_stack.rest", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
