"""Users, how they log in, and the tokens that stand for them: what belongs together of these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ai_stack.database import Database
from ai_stack.services.auth.hashing import Hashing
from ai_stack.services.auth.identity import Reader
from ai_stack.services.auth.issuers import Issuer
from ai_stack.services.auth.logins import Logins
from ai_stack.services.auth.passwords import Passwords
from ai_stack.services.auth.secrets import Secrets
from ai_stack.services.auth.signing import PURPOSE, SigningKeys
from ai_stack.services.auth.tokens import Tokens
from ai_stack.services.auth.users import Users
from ai_stack.services.encryption.envelopes import derive

OURS = "nixos-ai-stack"


class Terms(Protocol):
    """The settings that accounts go by."""

    @property
    def login_browser_s(self) -> float: ...
    @property
    def login_shell_s(self) -> float: ...
    @property
    def public_url(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Accounts:
    """The services of accounts."""

    users: Users
    logins: Logins
    passwords: Passwords
    tokens: Tokens

    @classmethod
    def of(
        cls,
        database: Database,
        secrets: Secrets,
        own_key: bytes,
        issuers: Sequence[Issuer],
        terms: Terms,
    ) -> "Accounts":
        """Our tokens bear the address that is public, or one name that all gateways share."""
        hashing = Hashing()
        logins = Logins(database, secrets, terms.login_browser_s, terms.login_shell_s)
        signing = SigningKeys(database, derive(own_key, PURPOSE))
        tokens = Tokens.of(signing, logins, terms.public_url or OURS, issuers)
        passwords = Passwords(database, secrets, hashing, logins)
        return cls(Users(database, hashing), logins, passwords, tokens)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """What reads the kinds of tokens that are no keys."""
        return self.logins.read, self.tokens.read

    async def sweep(self) -> int:
        """Forget what is over of logins, failed attempts and signing keys; how many there were."""
        swept = await self.logins.sweep() + await self.passwords.sweep()
        return swept + await self.tokens.signing.sweep()
