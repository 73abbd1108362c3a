"""An issuer's endpoints, as a client of it asks them: a code for tokens, a token for claims.

Answers are bounded, and nobody is followed elsewhere.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from ai_stack.errors import Unauthenticated
from ai_stack.services.auth.issuers import Issuer, is_safe
from ai_stack.services.auth.key_sets import (
    FRESH_S,
    JSON,
    LARGEST,
    TIMEOUT_S,
    IssuerUnavailable,
    described,
)

FORM = {**JSON, "Content-Type": "application/x-www-form-urlencoded"}
REFUSED = "The issuer has not confirmed this sign-on: begin again."
SILENT = "The issuer does not answer; try again shortly."
PAUSE_S = 5.0
BROKEN = (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError, TimeoutError)
MANNERS = ("client_secret_basic", "client_secret_post")


@dataclass(frozen=True, slots=True)
class Question:
    """What an issuer is asked with, and what its answer has to fit."""

    redirect_uri: str
    state: str
    nonce: str
    verifier: str


@dataclass(slots=True)
class Endpoints:
    """One issuer, as it describes itself; that is asked for anew every hour, and by one at a time:
    strangers begin sign-ons too."""

    issuer: Issuer
    _described: Mapping[str, Any] = field(default_factory=dict)
    _at: float = float("-inf")
    _failed_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def authorization(self, question: Question) -> str:
        """Where a browser is sent to sign in. Raises IssuerUnavailable."""
        address = await self.address("authorization_endpoint")
        return str(
            prepare_grant_uri(
                address,
                client_id=self.issuer.client_id,
                response_type="code",
                redirect_uri=question.redirect_uri,
                scope=self.issuer.request_scopes,
                state=question.state,
                nonce=question.nonce,
                code_challenge=create_s256_code_challenge(question.verifier),
                code_challenge_method="S256",
            )
        )

    async def tokens(self, code: str, question: Question) -> Mapping[str, Any]:
        """What the issuer gives for a code. Raises Unauthenticated, IssuerUnavailable."""
        address, auth = await self.address("token_endpoint"), await self._auth()
        body = prepare_token_request(
            "authorization_code",
            code=code,
            redirect_uri=question.redirect_uri,
            code_verifier=question.verifier,
        )
        address, headers, body = auth.prepare("POST", address, dict(FORM), body)
        return await _asked("POST", address, headers, body)

    async def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """What the issuer tells of who signed in, beside the token."""
        address = await self.address("userinfo_endpoint")
        headers = {**JSON, "Authorization": f"Bearer {access_token}"}
        return await _asked("GET", address, headers)

    async def offers(self, name: str) -> bool:
        return name in await self.description()

    async def address(self, name: str) -> str:
        """One of the endpoints; IssuerUnavailable for one that is not there, or not safe."""
        found = (await self.description()).get(name)
        if not isinstance(found, str) or not is_safe(found) or "#" in found:
            raise IssuerUnavailable("The issuer does not describe itself as a sign-on needs it.")
        return found

    async def description(self) -> Mapping[str, Any]:
        """The issuer's metadata. Raises IssuerUnavailable, at once for a while after it failed."""
        async with self._lock:
            if time.monotonic() - self._at > FRESH_S:
                await self._describe()
            return self._described

    async def _describe(self) -> None:
        if time.monotonic() - self._failed_at < PAUSE_S:
            raise IssuerUnavailable(SILENT)
        try:
            async with asyncio.timeout(TIMEOUT_S), httpx.AsyncClient(timeout=TIMEOUT_S) as client:
                self._described = await described(client, self.issuer)
        except BROKEN:
            self._failed_at = time.monotonic()
            raise IssuerUnavailable(SILENT) from None
        self._at = time.monotonic()

    async def _auth(self) -> ClientAuth:
        """How this client proves itself: by the first manner that both know."""
        secret = self.issuer.client_secret
        if secret is None:
            return ClientAuth(self.issuer.client_id, None, "none")
        known = (await self.description()).get("token_endpoint_auth_methods_supported")
        if isinstance(known, list) and MANNERS[0] not in known and MANNERS[1] in known:
            return ClientAuth(self.issuer.client_id, secret.get_secret_value(), MANNERS[1])
        # RFC 6749, 2.3.1: both are encoded as in a form before they are put together.
        pair = (quote_plus(self.issuer.client_id), quote_plus(secret.get_secret_value()))
        return ClientAuth(*pair, MANNERS[0])


async def _asked(
    method: str, address: str, headers: Mapping[str, str], body: str | None = None
) -> Mapping[str, Any]:
    """The JSON object of an answer; Unauthenticated where the issuer refuses."""
    try:
        async with asyncio.timeout(TIMEOUT_S), httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            status, content = await _read(client, method, address, headers, body)
        if status >= 500:
            raise ValueError("status")
        found = json.loads(content) if status == 200 else None
    except BROKEN:
        raise IssuerUnavailable(SILENT) from None
    if not isinstance(found, dict):
        raise Unauthenticated(REFUSED)
    return found


async def _read(
    client: httpx.AsyncClient,
    method: str,
    address: str,
    headers: Mapping[str, str],
    body: str | None,
) -> tuple[int, bytes]:
    content = bytearray()
    async with client.stream(method, address, headers=headers, content=body) as answer:
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) > LARGEST:
                raise ValueError("size")
    return answer.status_code, bytes(content)
