"""What a browser or a shell holds after a login: begun, read on every use, ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from ai_stack.database import Database, Transaction, audit, credentials, logins, users
from ai_stack.database.logins import Kind
from ai_stack.errors import Unauthenticated
from ai_stack.models.trust import Credential
from ai_stack.services.auth.credentials import LOGIN, hidden, new_login
from ai_stack.services.auth.lookups import Lookups
from ai_stack.services.auth.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Logins:
    """Logins of users; each token is told once and kept as HMAC under the pepper."""

    database: Database
    secrets: Secrets
    browser_s: float = 12 * 3600
    shell_s: float = 30 * 86400
    lookups: Lookups = field(default_factory=Lookups)

    def lasts_s(self, kind: Kind) -> float:
        """For how long a login of this kind holds."""
        return self.browser_s if kind == "browser" else self.shell_s

    async def begin(
        self, user_id: UUID, kind: Kind, issuer: str | None = None, generation: int | None = None
    ) -> str:
        """A new login's token; Unauthenticated for a user who is gone or suspended, or not of
        this generation any more."""
        token = new_login()
        hash, lasts = self._hash(token), timedelta(seconds=self.lasts_s(kind))
        async with self.database.control() as tx:
            is_begun = await logins.insert(
                tx,
                hash,
                user_id,
                kind=kind,
                issuer=issuer,
                lasts=lasts,
                generation=generation,
            )
            if not is_begun:
                raise Unauthenticated("This user cannot log in now.")
        return token

    async def read(self, token: str) -> Credential | None:
        """What a login allows: all that its user may do, until it ends. None for other tokens."""
        if LOGIN.fullmatch(token) is None:
            return None
        found = await logins.find(self.database, self._hash(token))
        credential = found and await credentials.find_user(self.database, found[0])
        if not (found and credential):
            return None
        return replace(credential, expires_at=found[1], renewable=True)

    async def end(self, token: str) -> UUID | None:
        """End one login; whose it was, None where it had ended before."""
        async with self.lookups, self.database.control() as tx:
            user_id = await logins.delete(tx, self._hash(token))
            if user_id is not None:
                await self._record(tx, "login.end", user_id, {})
        return user_id

    async def sweep(self) -> int:
        """Forget the logins that are over; how many there were."""
        return await logins.sweep(self.database)

    async def _record(
        self, tx: Transaction, action: str, user_id: UUID, detail: Mapping[str, object]
    ) -> None:
        user = await users.user(tx, str(user_id))
        name = "" if user is None else user.name
        await audit.record(tx, name, action, str(user_id), detail=detail)

    def _hash(self, token: str) -> bytes:
        return hidden(token, self.secrets.pepper)
