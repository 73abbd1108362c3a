"""The session's cookie: how it is set, and what proves that a page of this gateway sent it.

A browser sends cookies by itself, whoever's page asks. SameSite keeps other sites out, but every
port of a machine is one site: so who changes something by a cookie names the exact origin.
"""

from urllib.parse import urlsplit

from starlette.types import Scope

from ai_stack.errors import Forbidden
from ai_stack.services.auth.credentials import COOKIE, COOKIES, SAFE_COOKIE, Pairs

SAFE = ("GET", "HEAD", "OPTIONS")
# What no page can have a browser send by itself.
EXPLICIT = frozenset({b"authorization", b"x-api-key"})
MARK = f"{COOKIE}=".encode()
FOREIGN = "A request by cookie has to come from a page of this gateway itself."


def check_origin(scope: Scope, carried: Pairs, public_url: str | None) -> None:
    """Return for what may change something; Forbidden for a cookie that another page had sent."""
    if scope["method"] in SAFE or is_explicit(carried):
        return
    if any(name in COOKIES and MARK in value for name, value in carried):
        told = _told(scope)
        if told != [b"same-origin"] and not is_own(scope, public_url):
            raise Forbidden(FOREIGN)


def is_explicit(carried: Pairs) -> bool:
    """Whether it was a program that said who asks."""
    return not EXPLICIT.isdisjoint(dict(carried))


def check_page(scope: Scope, public_url: str | None) -> None:
    """Return for a page of this gateway and for what is no page; Forbidden for another page."""
    site = _values(scope, b"sec-fetch-site")
    if site not in ([], [b"same-origin"], [b"none"]):
        raise Forbidden(FOREIGN)
    if _values(scope, b"origin") and not is_own(scope, public_url):
        raise Forbidden(FOREIGN)


def is_own(scope: Scope, public_url: str | None) -> bool:
    """Whether the request's one Origin is where it was sent to: scheme, name and port."""
    hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
    if len(hosts) != 1 or len(origins) != 1:
        return False
    own = f"{scope['scheme']}://{hosts[0].decode('latin-1')}".lower()
    public = "" if public_url is None else _origin(public_url)
    return origins[0].decode("latin-1").lower() in {own, public} - {""}


def begun(token: str, scope: Scope, lasts_s: float) -> str:
    """The Set-Cookie header of a login."""
    return _set(scope, token, int(lasts_s))


def ended(scope: Scope) -> str:
    """The Set-Cookie header that has a browser forget its login."""
    return _set(scope, "", 0)


def _set(scope: Scope, value: str, lasts_s: int) -> str:
    """Over https by a name that no neighbour of this host can set a cookie of."""
    is_safe = scope["scheme"] == "https"
    name = SAFE_COOKIE if is_safe else COOKIE
    parts = [f"{name}={value}", "Path=/", f"Max-Age={lasts_s}", "HttpOnly", "SameSite=Lax"]
    return "; ".join(parts + (["Secure"] if is_safe else []))


def _told(scope: Scope) -> list[bytes]:
    """What the browser says of where the request comes from, where it names no origin."""
    return [] if _values(scope, b"origin") else _values(scope, b"sec-fetch-site")


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value.strip() for found, value in scope["headers"] if found == name]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
