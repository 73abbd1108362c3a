"""The keys that sign the stack's own tokens: made, sealed, rotated and published."""

import asyncio
import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from ai_stack.database import Database, audit, signing_keys
from ai_stack.database.signing_keys import SealedKey
from ai_stack.errors import StackError
from ai_stack.models.principals import Principal, Scope
from ai_stack.services.encryption import envelopes

# Every client knows ES256; few know Ed25519 by the name that it has now.
ALGORITHM, CURVE = "ES256", "P-256"
PURPOSE = "signing keys"
LONGEST = timedelta(hours=1)  # that a token holds, so a retired key verifies no longer
KEPT_S = 1.0  # strangers ask for the keys as often as they like, and invent ids of some


@dataclass(slots=True, repr=False)
class SigningKeys:
    """Keys in the database, each in an envelope under `sealing`, which is not there."""

    database: Database
    sealing: bytes
    _kept: Mapping[str, ECKey] = field(default_factory=dict)
    _kept_until: float = float("-inf")
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def current(self) -> tuple[str, ECKey]:
        """The key that signs now and its id, made where there is none."""
        sealed = await self._sealed()
        key = None if sealed is None else self._opened(sealed)
        if key is None:
            # One that cannot be opened is of no use to anybody: its secret is gone.
            await self._renew(None if sealed is None else timedelta(0))
            sealed = await self._sealed()
            key = None if sealed is None else self._opened(sealed)
        if sealed is None or key is None:
            raise StackError("No key to sign tokens with could be made; try again.")
        return sealed.id, key

    async def find(self, id: str) -> ECKey | None:
        """A key that verified KEPT_S ago or later; `stands` knows whether it does now."""
        return (await self._verifying()).get(id)

    async def stands(self, id: str) -> bool:
        """Whether a key verifies at this moment, for what it has signed."""
        return bool(await signing_keys.keys(self.database, id))

    async def published(self) -> list[Mapping[str, Any]]:
        """The public parts of the keys that verify, as a JWK Set has them."""
        return [
            {**key.as_dict(private=False), "kid": id, "use": "sig", "alg": ALGORITHM}
            for id, key in (await self._verifying()).items()
        ]

    def forget(self) -> None:
        """Ask the database again: keys may have changed."""
        self._kept_until = float("-inf")

    async def rotate(self, principal: Principal, *, at_once: bool = False) -> str:
        """Sign with another key from now on; its id.

        What the old ones signed holds until it expires; with `at_once` it is refused, as after
        a theft. Raises Forbidden.
        """
        principal.require(Scope.OPERATE)
        await self._renew(timedelta(0) if at_once else LONGEST, principal.name)
        return (await self.current())[0]

    async def sweep(self) -> int:
        """Forget the keys that verify nothing any more; how many there were."""
        return await signing_keys.sweep(self.database)

    async def _verifying(self) -> Mapping[str, ECKey]:
        """The keys that verify, the current one first; asked for once in KEPT_S at most."""
        async with self._asking:
            if time.monotonic() >= self._kept_until:
                self._kept_until = time.monotonic() + KEPT_S  # unless they change meanwhile
                try:
                    sealed = await signing_keys.keys(self.database)
                except BaseException:
                    self.forget()
                    raise
                opened = {key.id: self._opened(key) for key in sealed}
                self._kept = {id: key for id, key in opened.items() if key is not None}
            return self._kept

    async def _renew(self, verifies: timedelta | None, actor: str = "gateway") -> None:
        id, sealed = self._made()
        async with self.database.control() as tx:
            if verifies is not None:
                await signing_keys.retire(tx, verifies)
            if await signing_keys.insert(tx, id, sealed):
                await audit.record(tx, actor, "signing_key.rotate", id)
        self.forget()

    async def _sealed(self) -> SealedKey | None:
        """The current key."""
        found = await signing_keys.keys(self.database)
        return found[0] if found and found[0].is_current else None

    def _made(self) -> tuple[str, bytes]:
        id = base64.b32encode(secrets.token_bytes(10)).decode().lower()
        content = ECKey.generate_key(CURVE).as_pem(private=True)
        return id, envelopes.seal(self.sealing, content, _place(id))

    def _opened(self, key: SealedKey) -> ECKey | None:
        """None for one that was sealed with another secret."""
        try:
            return _opened(self.sealing, key.id, key.sealed)
        except (envelopes.Unopened, JoseError, ValueError):
            return None


@lru_cache(16)
def _opened(sealing: bytes, id: str, sealed: bytes) -> ECKey:
    return ECKey.import_key(envelopes.open(sealing, sealed, _place(id)))


def _place(id: str) -> bytes:
    return envelopes.place("control.signing_keys", id, "sealed", PURPOSE)
