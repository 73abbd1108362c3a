"""What the gateway says of itself where clients look for it."""

from fastapi import APIRouter, Request, Response

from ai_stack.rest.answers import respond
from ai_stack.rest.html import here
from ai_stack.rest.requests import PUBLIC, JsonRoute, UseStack
from ai_stack.services.auth.resources import PROTECTED, WELL_KNOWN, metadata

router = APIRouter(tags=["trust"], route_class=JsonRoute)

FOR_A_WHILE = {"Cache-Control": "public, max-age=300"}


@router.get(WELL_KNOWN, dependencies=[PUBLIC])
async def gateway(stack: UseStack, request: Request) -> Response:
    """The gateway as a protected resource (RFC 9728): the issuers whose tokens it takes."""
    return respond(metadata(stack.issuers, here(request), ""), headers=FOR_A_WHILE)


@router.get(f"{WELL_KNOWN}{PROTECTED}", dependencies=[PUBLIC])
async def mcp(stack: UseStack, request: Request) -> Response:
    """MCP as a protected resource, which the 401 of `/mcp` names."""
    return respond(metadata(stack.issuers, here(request), PROTECTED), headers=FOR_A_WHILE)


@router.get("/.well-known/jwks.json", dependencies=[PUBLIC])
async def published_keys(stack: UseStack) -> Response:
    """The public keys that the stack's own tokens are verified with, as a JWK Set (RFC 7517)."""
    return respond({"keys": await stack.accounts.tokens.signing.published()}, headers=FOR_A_WHILE)
