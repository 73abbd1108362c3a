"""Logins, passwords and tokens over REST."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ai_stack.errors import Unauthenticated
from ai_stack.models.principals import Scope
from ai_stack.rest import cookies
from ai_stack.rest.answers import respond
from ai_stack.rest.html import address_of
from ai_stack.rest.requests import PUBLIC, JsonRoute, Known, Operator, UseStack
from ai_stack.services.auth.credentials import Carried, read
from ai_stack.services.auth.tokens import Issued

router = APIRouter(tags=["trust"], route_class=JsonRoute)

UNCACHED = {"Cache-Control": "no-store"}
Name = Annotated[str, Field(min_length=1, max_length=255)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1024)]


class LoginBody(BaseModel):
    """A name and a password, and what is to hold the login."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    password: Password
    kind: Literal["browser", "shell"] = Field(
        "browser", description="`browser` for a cookie, `shell` for a token in the answer"
    )


class PasswordBody(BaseModel):
    """A password, and another one to put in its place."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    password: Password
    new_password: Password = Field(description="12 characters at least, 1024 bytes at most")


class TokenBody(BaseModel):
    """A token to make, which does no more than its maker."""

    model_config = ConfigDict(extra="forbid")

    scopes: list[Scope] | None = Field(None, description="by default those of the caller")
    lasts_s: int = Field(900, ge=60, le=3600)


class RotationBody(BaseModel):
    """Whether what the old keys signed is refused at once."""

    model_config = ConfigDict(extra="forbid")

    at_once: bool = Field(False, description="as after a theft; else it holds until it expires")


@router.post("/auth/login", dependencies=[PUBLIC])
async def log_in(stack: UseStack, request: Request, body: LoginBody) -> Response:
    """Log in by name and password.

    A browser gets the cookie `aidb_session`, by https `__Host-aidb_session`; a shell `token`,
    which is told this once. A wrong name answers as a wrong password does; after failures 429
    says for how long to wait.
    """
    cookies.check_page(request.scope, stack.settings.public_url)
    password = body.password.get_secret_value()
    token = await stack.accounts.passwords.login(
        body.name, password, address_of(request), body.kind
    )
    lasts_s = stack.accounts.logins.lasts_s(body.kind)
    answer: dict[str, object] = {"kind": body.kind, "expires_in_s": int(lasts_s)}
    if body.kind == "shell":
        return respond({**answer, "token": token}, headers=UNCACHED)
    cookie = {"Set-Cookie": cookies.begun(token, request.scope, lasts_s)}
    return respond(answer, headers={**UNCACHED, **cookie})


@router.post("/auth/logout", dependencies=[PUBLIC], status_code=204)
async def log_out(stack: UseStack, request: Request) -> Response:
    """End the login that this request is made with; harmless where it has ended before."""
    carried = _carried(request)
    cookies.check_origin(request.scope, request.state.carried, stack.settings.public_url)
    for token in carried.logins or ([carried.token] if carried.token else []):
        await stack.accounts.logins.end(token)
    cookie = {"Set-Cookie": cookies.ended(request.scope)} if carried.by_cookie else {}
    return Response(status_code=204, headers={**UNCACHED, **cookie})


@router.post("/auth/password", dependencies=[PUBLIC], status_code=204)
async def change_password(stack: UseStack, request: Request, body: PasswordBody) -> Response:
    """Put another password in a password's place. Every login of the user ends with it."""
    cookies.check_page(request.scope, stack.settings.public_url)
    await stack.accounts.passwords.change(
        body.name,
        body.password.get_secret_value(),
        body.new_password.get_secret_value(),
        address_of(request),
    )
    return Response(status_code=204, headers=UNCACHED)


@router.post("/auth/token", status_code=201)
async def make_token(stack: UseStack, caller: Known, request: Request, body: TokenBody) -> Response:
    """Make a JSON Web Token that does for a short time what the caller may do, or less.

    It is for the project of this request, and ends early when the key or user does.
    """
    scopes = None if body.scopes is None else frozenset(body.scopes)
    lasts, carried = timedelta(seconds=body.lasts_s), _carried(request)
    token = (await stack.identity.login(carried))[1] if carried.logins else carried.token or ""
    issued = await stack.accounts.tokens.issue(caller, token, scopes, lasts)
    return respond(_issued(issued), 201, UNCACHED)


@router.post("/auth/signing-keys/rotate", status_code=201)
async def rotate_signing_key(stack: UseStack, caller: Operator, body: RotationBody) -> Response:
    """Sign tokens with a new key from now on; the old ones verify what they have signed."""
    kid = await stack.accounts.tokens.signing.rotate(caller, at_once=body.at_once)
    return respond({"kid": kid}, 201)


def _issued(token: Issued) -> dict[str, object]:
    """A token in the form of RFC 6749."""
    return {
        "access_token": token.token,
        "token_type": "Bearer",
        "expires_in": token.expires_in_s,
        "scope": " ".join(sorted(token.scopes)),
    }


def _carried(request: Request) -> Carried:
    try:
        return read(request.state.carried)
    except AttributeError:
        raise Unauthenticated from None
