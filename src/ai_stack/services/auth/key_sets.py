"""The public keys of the issuers: fetched from where an issuer is known to keep them, and kept.

A token's own word about where its key lies is never followed.
"""

import asyncio
import json
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from ai_stack.errors import Unavailable
from ai_stack.services.auth.issuers import LOOPBACK, Issuer, is_safe
from ai_stack.services.auth.proofs import PublicKey

FRESH_S, USABLE_S, PAUSE_S = 3600.0, 86400.0, 30.0
TIMEOUT_S, LARGEST, MOST_KEYS, WEAKEST_RSA = 5.0, 256 << 10, 100, 2048
KINDS: Mapping[str, type[PublicKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
JSON = {"Accept": "application/json"}

log = logging.getLogger(__name__)


class IssuerUnavailable(Unavailable):
    """The issuer of this token does not answer, so that it cannot be checked; try again shortly."""


@dataclass(slots=True)
class KeySet:
    """The keys of one issuer, by their ids; asked for anew every hour, or for an id that is new."""

    issuer: Issuer
    _keys: Mapping[str, PublicKey] = field(default_factory=dict)
    _fetched_at: float = float("-inf")
    _asked_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, kid: str) -> PublicKey | None:
        """The key of an id; None where the issuer has none. Raises IssuerUnavailable."""
        age_s = time.monotonic() - self._fetched_at
        if age_s > FRESH_S or kid not in self._keys:
            await self._refresh(kid)
        if time.monotonic() - self._fetched_at > USABLE_S:
            raise IssuerUnavailable
        return self._keys.get(kid)

    async def only(self) -> PublicKey | None:
        """The key of an issuer that has no other, which a token need not name."""
        if time.monotonic() - self._fetched_at > FRESH_S or not self._keys:
            await self._refresh("")
        if time.monotonic() - self._fetched_at > USABLE_S:
            raise IssuerUnavailable
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def _refresh(self, kid: str) -> None:
        """Ask again, unless that was done a moment ago: strangers invent ids too."""
        async with self._lock:
            now = time.monotonic()
            is_known = kid in self._keys and now - self._fetched_at <= FRESH_S
            if is_known or now - self._asked_at < PAUSE_S:
                return
            self._asked_at = now
            try:
                self._keys = await fetch_keys(self.issuer)
            except (httpx.HTTPError, ValueError, RecursionError, TimeoutError) as error:
                log.warning("the keys of %s: %s", self.issuer.name, type(error).__name__)
                return
            self._fetched_at = time.monotonic()


async def fetch_keys(issuer: Issuer) -> Mapping[str, PublicKey]:
    """The keys that an issuer publishes and that can verify; the others are left out."""
    near = urlsplit(issuer.issuer).hostname in LOOPBACK  # no proxy stands before this machine
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=not near) as client,
    ):
        address = issuer.jwks_uri or (await described(client, issuer))["jwks_uri"]
        if not isinstance(address, str) or not is_safe(address):
            raise ValueError("jwks_uri")
        found = (await fetch_json(client, address)).get("keys")
    return usable(found if isinstance(found, list) else [])


async def described(client: httpx.AsyncClient, issuer: Issuer) -> dict[str, Any]:
    """What an issuer says of itself; ValueError where that is about another one."""
    found = await fetch_json(client, issuer.discovery)
    if found.get("issuer") != issuer.issuer or "jwks_uri" not in found:
        raise ValueError("issuer")
    return found


async def fetch_json(client: httpx.AsyncClient, address: str) -> dict[str, Any]:
    """A JSON object of bounded size, without following anybody elsewhere."""
    content = bytearray()
    async with client.stream("GET", address, headers=JSON, follow_redirects=False) as answer:
        if answer.status_code != 200:
            raise ValueError("status")
        async for piece in answer.aiter_bytes():
            content += piece
            if len(content) > LARGEST:
                raise ValueError("size")
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("form")
    return found


def usable(found: Sequence[object]) -> Mapping[str, PublicKey]:
    """The keys of a JWK Set that verify signatures, by their ids; of two with one id neither."""
    keys, twice = dict[str, PublicKey](), set[str]()
    for told in found[:MOST_KEYS]:
        key = _key(told)
        if key is not None and key.kid is not None:
            twice |= {key.kid} & keys.keys()
            keys[key.kid] = key
    return {kid: key for kid, key in keys.items() if kid not in twice}


def _key(told: object) -> PublicKey | None:
    if not isinstance(told, dict) or told.get("use", "sig") != "sig":
        return None
    kind = KINDS.get(str(told.get("kty")))
    with warnings.catch_warnings(action="ignore", category=SecurityWarning):
        try:
            key = None if kind is None else kind.import_key({k: told[k] for k in told if k != "d"})
        except (JoseError, ValueError, TypeError, KeyError):
            return None
    is_weak = isinstance(key, RSAKey) and key.public_key.key_size < WEAKEST_RSA
    return None if is_weak else key
