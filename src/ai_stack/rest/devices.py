"""Signing a shell in by a browser: what the shell asks (RFC 8628), and the page that approves."""

import hmac
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from ai_stack.errors import AIStackError, Conflict, Forbidden, NotFound
from ai_stack.models.trust import Credential
from ai_stack.rest.answers import respond
from ai_stack.rest.html import PageRoute, address_of, form, here, moved, page, person_of
from ai_stack.rest.requests import PUBLIC, JsonRoute, UseStack
from ai_stack.services.auth.devices import Answer, plain
from ai_stack.stack import Stack

router = APIRouter(tags=["trust"], route_class=JsonRoute)
pages = APIRouter(include_in_schema=False, route_class=PageRoute)

UNCACHED = {"Cache-Control": "no-store"}
TOLD: Mapping[Answer, str] = {
    "approved": "This shell has its login.",
    "authorization_pending": "Nobody has approved this shell yet.",
    "slow_down": "This shell asks too often.",
    "access_denied": "This shell was denied.",
    "expired_token": "Nobody approved this shell in time, or it has its login already.",
}
DAY_S = 86400


@router.post("/auth/device", dependencies=[PUBLIC])
async def start(
    stack: UseStack,
    request: Request,
    client_id: Annotated[str, Form(max_length=100, description="what the shell calls itself")],
) -> Response:
    """Begin to sign a shell in by a browser (RFC 8628).

    A person opens `verification_uri`, signs in, and approves what shows `user_code`; the shell
    asks `/auth/device/token` meanwhile, every `interval` seconds. All that for ten minutes.
    """
    if not stack.identity.is_required:
        raise Conflict("This gateway asks nobody to sign in.")
    started = await stack.devices.start(client_id, address_of(request))
    page = f"{here(request)}/device"
    shown = {
        "device_code": started.device_code,
        "user_code": started.user_code,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?{urlencode({'code': started.user_code})}",
        "expires_in": started.lasts_s,
        "interval": started.interval_s,
    }
    return respond(shown, headers=UNCACHED)


@router.post("/auth/device/token", dependencies=[PUBLIC])
async def poll(
    stack: UseStack,
    grant_type: Annotated[Literal["urn:ietf:params:oauth:grant-type:device_code"], Form()],
    device_code: Annotated[str, Form(max_length=200)],
) -> Response:
    """Ask how it stands: a login's token, once, when it was approved.

    Until then 400 with `error`: `authorization_pending`, `slow_down` for who asks too often (wait
    five seconds longer from then on), `access_denied` or `expired_token`.
    """
    polled = await stack.devices.poll(device_code)
    if polled.token is None:
        return respond({"error": polled.answer, "detail": TOLD[polled.answer]}, 400, UNCACHED)
    lasts_s = int(stack.accounts.logins.lasts_s("shell"))
    told = {"access_token": polled.token, "token_type": "Bearer", "expires_in": lasts_s}
    return respond(told, headers=UNCACHED)


@pages.get("/device", dependencies=[PUBLIC])
async def look(stack: UseStack, request: Request, code: str = "", issuer: str = "") -> Response:
    """Show the shell that waits with a code, to who has signed in."""
    person = await person_of(request)
    if person is None:
        return moved(_sign_in(stack, code, issuer))
    if not code:
        return _asked(person[0])
    try:
        waiting = await stack.devices.waiting(person[0], code)
    except AIStackError as error:
        return _asked(person[0], error)
    return page(
        "approve",
        waiting=waiting,
        since=f"{waiting.since:%H:%M}",
        name=person[0].name,
        days=int(stack.accounts.logins.lasts_s("shell") // DAY_S) or 1,
        proof=_proof(stack, person[1], waiting.user_code),
    )


@pages.post("/device", dependencies=[PUBLIC])
async def settle(stack: UseStack, request: Request) -> Response:
    """Let the shell of a code in, or refuse it."""
    fields, person = await form(request), await person_of(request)
    if person is None:
        raise Forbidden("Sign in first: this login has ended.")
    code, decision = fields.get("code", ""), fields.get("decision")
    proof = _proof(stack, person[1], code)
    if not hmac.compare_digest(proof.encode(), fields.get("proof", "").encode()):
        raise Forbidden("This form is not the one that was shown in this browser.")
    if decision not in ("approve", "deny"):
        raise NotFound("Approve it or deny it.")
    settled = await stack.devices.settle(person[0], code, approved=decision == "approve")
    if decision == "deny":
        return page("settled", title="Denied", message=f"{settled.name} was not let in.")
    return page("settled", title="Approved", message=f"{settled.name} is let in: go back to it.")


def _asked(person: Credential, error: AIStackError | None = None) -> Response:
    status, message = (200, "") if error is None else (error.status, error.message)
    return page("device", status, name=person.name, message=message)


def _sign_in(stack: Stack, code: str, issuer: str) -> str:
    """Where to sign in first: at the issuer that the shell was told, where there is one."""
    path = f"/device?{urlencode({'code': code[:20]})}" if code else "/device"
    known = any(one.name == issuer for one in stack.sign_on.issuers)
    return f"{f'/auth/oidc/{issuer}' if known else '/login'}?{urlencode({'next': path})}"


def _proof(stack: Stack, login: str, code: str) -> str:
    """What only a page that this gateway has shown to this login knows."""
    said = f"device form {login} {plain(code)}".encode()
    return hmac.digest(stack.devices.secrets.pepper, said, "sha256").hex()
