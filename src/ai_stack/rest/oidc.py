"""Signing on at an issuer: there, and back."""

from fastapi import APIRouter, Request, Response

from ai_stack.rest import cookies
from ai_stack.rest.html import PageRoute, here, moved, person_of
from ai_stack.rest.requests import PUBLIC, UseStack
from ai_stack.services.auth.oidc import HOME, LASTS

router = APIRouter(include_in_schema=False, route_class=PageRoute)

COOKIE = "aidb_sign_on"


@router.get("/auth/oidc/{issuer}", dependencies=[PUBLIC])
async def there(stack: UseStack, request: Request, issuer: str, next: str = HOME) -> Response:
    """Send a browser to an issuer."""
    begun = await stack.sign_on.begin(issuer, _redirect_uri(request, issuer), next)
    return moved(begun.url, _cookie(request, begun.cookie, int(LASTS.total_seconds())))


@router.get("/auth/oidc/{issuer}/callback", dependencies=[PUBLIC])
async def back(stack: UseStack, request: Request, issuer: str) -> Response:
    """Let in who comes back from an issuer, and go on."""
    signed_on = await stack.sign_on.finish(
        issuer,
        _answer(request),
        request.cookies.get(_name(request)),
        _redirect_uri(request, issuer),
    )
    before = await person_of(request)
    if before is not None:
        await stack.accounts.logins.end(before[1])
    lasts_s = stack.accounts.logins.lasts_s("browser")
    login = cookies.begun(signed_on.token, request.scope, lasts_s)
    return moved(signed_on.next, login, _cookie(request, "", 0))


def _redirect_uri(request: Request, issuer: str) -> str:
    """One for each issuer: an answer that comes here is no other's."""
    return f"{here(request)}/auth/oidc/{issuer}/callback"


def _answer(request: Request) -> dict[str, str]:
    """The parameters of an answer; of one that is told twice neither."""
    told = request.query_params.multi_items()
    names = [name for name, _ in told]
    return {name: value for name, value in told if names.count(name) == 1}


def _cookie(request: Request, value: str, lasts_s: int) -> str:
    parts = [f"{_name(request)}={value}", "Path=/", f"Max-Age={lasts_s}", "HttpOnly"]
    return "; ".join([*parts, "SameSite=Lax", *(["Secure"] if _is_safe(request) else [])])


def _name(request: Request) -> str:
    """Where it can, a name that no neighbour of this host can set a cookie of."""
    return f"__Host-{COOKIE}" if _is_safe(request) else COOKIE


def _is_safe(request: Request) -> bool:
    return here(request).startswith("https:")
