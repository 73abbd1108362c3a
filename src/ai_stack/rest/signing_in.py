"""The pages on which people sign in and out."""

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from ai_stack.errors import AIStackError
from ai_stack.rest import cookies
from ai_stack.rest.html import PageRoute, address_of, form, here, moved, page, person_of
from ai_stack.rest.requests import PUBLIC, UseStack
from ai_stack.services.auth.oidc import HOME, checked_path
from ai_stack.stack import Stack

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/login", dependencies=[PUBLIC])
async def ask(stack: UseStack, request: Request, next: str = HOME) -> Response:
    """Who are you?"""
    person = await person_of(request)
    if person is None:
        return _asked(stack, request, checked_path(next))
    return page("signed_in", name=person[0].name)


@router.post("/login", dependencies=[PUBLIC])
async def sign_in(stack: UseStack, request: Request) -> Response:
    """Sign in by name and password, and go on."""
    fields = await form(request)
    next, name = checked_path(fields.get("next", HOME)), fields.get("name", "")
    try:
        password = fields.get("password", "")
        token = await stack.accounts.passwords.login(name, password, address_of(request), "browser")
    except AIStackError as error:
        return _asked(stack, request, next, error, name)
    lasts_s = stack.accounts.logins.lasts_s("browser")
    return moved(next, cookies.begun(token, request.scope, lasts_s))


@router.post("/logout", dependencies=[PUBLIC])
async def sign_out(stack: UseStack, request: Request) -> Response:
    """End this browser's login."""
    await form(request)
    person = await person_of(request)
    if person is not None:
        await stack.accounts.logins.end(person[1])
    return moved(HOME, cookies.ended(request.scope))


def _asked(
    stack: Stack, request: Request, next: str, error: AIStackError | None = None, name: str = ""
) -> Response:
    issuers = [
        {
            "title": issuer.title or issuer.name,
            "url": f"{here(request)}/auth/oidc/{issuer.name}?{urlencode({'next': next})}",
        }
        for issuer in stack.sign_on.issuers
    ]
    status, message = (200, "") if error is None else (error.status, error.message)
    return page("login", status, issuers=issuers, next=next, name=name[:255], message=message)
