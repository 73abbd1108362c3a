"""JSON Web Tokens: ours, which live shortly, and those of the issuers that are trusted.

A token proves whose it is, not that its holder may still do anything: the key or user that it was
made for is looked up on every use, and bounds what the token says.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from joserfc import jwt

from ai_stack.database import Database, credentials, users
from ai_stack.errors import Forbidden, InvalidRequest, SettingsError, Unauthenticated
from ai_stack.models.identifiers import uuid7
from ai_stack.models.principals import EVERY_SCOPE, Principal, Scope, earliest
from ai_stack.models.trust import Credential
from ai_stack.services.auth.issuers import Issuer
from ai_stack.services.auth.key_sets import KeySet
from ai_stack.services.auth.logins import Logins
from ai_stack.services.auth.proofs import LEEWAY_S, REFUSED, Claims, Unproven, proven
from ai_stack.services.auth.signing import ALGORITHM, LONGEST, SigningKeys

AUDIENCE = "aidb"
SHORTEST, USUAL = timedelta(minutes=1), timedelta(minutes=15)
FARTHEST_S = 366 * 86400.0


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A token of ours, which is told this once."""

    token: str
    scopes: frozenset[Scope]
    expires_in_s: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Makes tokens in the name `issuer`, and reads them and those of other issuers."""

    database: Database
    signing: SigningKeys
    logins: Logins
    issuer: str
    others: dict[str, KeySet] = field(default_factory=dict)

    @classmethod
    def of(
        cls, signing: SigningKeys, logins: Logins, issuer: str, others: Collection[Issuer]
    ) -> "Tokens":
        """SettingsError for an issuer of our own name."""
        if any(other.issuer == issuer for other in others):
            raise SettingsError(f"AI_STACK_ISSUERS: {issuer} is this stack itself.")
        sets = {other.issuer: KeySet(other) for other in others if other.audience}
        return cls(signing.database, signing, logins, issuer, sets)

    async def issue(
        self,
        principal: Principal,
        carried: str,
        scopes: frozenset[Scope] | None = None,
        lasts: timedelta = USUAL,
    ) -> Issued:
        """A token that does no more, in this project alone, than what its maker has `carried`.

        Raises Forbidden for scopes that the caller lacks and for a caller who is neither a key
        nor a login; InvalidRequest for a time out of bounds.
        """
        wanted = principal.scopes if scopes is None else scopes
        _check(principal, carried, wanted, lasts)
        maker, until = await self._maker(principal, carried)
        now = time.time()
        lasts_s = int(min(lasts.total_seconds(), until - now))
        if lasts_s <= 0:
            raise Unauthenticated(REFUSED)
        claims = self._claims(principal, wanted, int(now), lasts_s) | maker
        kid, key = await self.signing.current()
        token = jwt.encode({"alg": ALGORITHM, "kid": kid}, claims, key, [ALGORITHM])
        return Issued(token, wanted, lasts_s)

    async def read(self, token: str) -> Credential | None:
        """What a token allows now; None for what is no JSON Web Token. Raises Unauthenticated."""
        unproven = Unproven.read(token)
        if unproven is None:
            return None
        if unproven.issuer == self.issuer:
            return await self._ours(unproven)
        others = self.others.get(unproven.issuer)
        if others is None:
            raise Unauthenticated(REFUSED)
        return await self._theirs(unproven, others)

    def _claims(
        self, principal: Principal, scopes: frozenset[Scope], now: int, lasts_s: int
    ) -> Claims:
        return {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": now + lasts_s,
            "jti": uuid7().hex,
            "project": str(principal.project_id),
            "scope": " ".join(sorted(scopes)),
        }

    async def _maker(self, principal: Principal, carried: str) -> tuple[Claims, float]:
        """The claims that name the maker, and when what it has carried ends."""
        if principal.key_id is not None:
            key = await credentials.find_key(self.database, principal.key_id)
            return {"sub": f"key:{principal.key_id}"}, _end(key)
        assert principal.user_id is not None
        # In this order: what ends the login in between ends the token too.
        generation = await users.generation(self.database, principal.user_id)
        login = await self.logins.read(carried)
        return {"sub": f"user:{principal.user_id}", "generation": generation}, _end(login)

    async def _ours(self, unproven: Unproven) -> Credential:
        key = await self.signing.find(unproven.kid)
        if key is None:
            raise Unauthenticated(REFUSED)
        now = time.time()
        claims = proven(unproven, key, [ALGORITHM], audiences=[AUDIENCE], now=now)
        if claims["exp"] <= now:  # both clocks are ours
            raise Unauthenticated(REFUSED)
        async with self.logins.lookups:
            if not await self.signing.stands(unproven.kid):
                raise Unauthenticated(REFUSED)
            found = await self._made_by(claims)
        return _bounded(found, _scopes(claims.get("scope"), ""), claims, claims["exp"])

    async def _made_by(self, claims: Claims) -> Credential:
        """The key or user that a token was made for, as of now."""
        kind, _, id = str(claims["sub"]).partition(":")
        if kind == "key":
            found = await credentials.find_key(self.database, id)
        else:
            found = await credentials.find_user(self.database, UUID(id))
            if await users.generation(self.database, UUID(id)) != claims.get("generation"):
                found = None
        if found is None:
            raise Unauthenticated(REFUSED)
        return found

    async def _theirs(self, unproven: Unproven, others: KeySet) -> Credential:
        issuer, key = others.issuer, await others.find(unproven.kid)
        if key is None:
            raise Unauthenticated(REFUSED)
        claims = proven(
            unproven, key, issuer.algorithms, audiences=issuer.audience, now=time.time()
        )
        async with self.logins.lookups:
            user_id = await users.user_of(self.database, issuer.issuer, claims["sub"])
            found = user_id and await credentials.find_user(self.database, user_id)
        if not found:
            raise Unauthenticated(REFUSED)
        claim, scopes = issuer.scopes_claim, EVERY_SCOPE
        if claim is not None:
            scopes = _scopes(claims.get(claim), issuer.scopes_prefix)
        return _bounded(found, scopes, {}, claims["exp"] + LEEWAY_S)


def _check(principal: Principal, carried: str, wanted: frozenset[Scope], lasts: timedelta) -> None:
    if principal.key_id is None and principal.user_id is None:
        raise Forbidden("A token is made by a key or after a login.")
    if Unproven.read(carried) is not None:
        raise Forbidden("A token makes no tokens: ask with the key or login that made it.")
    if not SHORTEST <= lasts <= LONGEST:
        raise InvalidRequest(f"A token lasts {SHORTEST.seconds} to {LONGEST.seconds} s.")
    more = sorted(wanted - principal.scopes)
    if more:
        raise Forbidden(f"You cannot give what you do not have: {', '.join(more)}.")


def _end(credential: Credential | None) -> float:
    if credential is None or credential.revoked:
        raise Unauthenticated(REFUSED)
    ends = credential.expires_at
    return float("inf") if ends is None else ends.timestamp()


def _scopes(told: object, prefix: str) -> frozenset[Scope]:
    """The stack's own among the scopes of a claim, which is a text or a list."""
    names = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
    known = {f"{prefix}{scope.value}": scope for scope in Scope}
    return frozenset(known[name] for name in names if isinstance(name, str) and name in known)


def _bounded(
    found: Credential, scopes: frozenset[Scope], claims: Claims, until: float
) -> Credential:
    """No more than the token says, and no longer."""
    ends = datetime.fromtimestamp(min(until, time.time() + FARTHEST_S), UTC)
    project = claims.get("project")
    return replace(
        found,
        scopes=found.scopes & scopes,
        projects=tuple(p for p in found.projects if project in (None, str(p.project_id))),
        expires_at=earliest(ends, found.expires_at),
        secret=b"",
    )
