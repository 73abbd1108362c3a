"""Who asks: one resolver for every carrier and every face.

A verdict is found out once and remembered until anybody's rights change: where they are changed
that is at once, and PostgreSQL tells every other gateway as it is committed. While PostgreSQL
cannot be heard, what was found out before holds for `grace_s` at most, and nobody new gets in.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from ai_stack.alongside import alongside, is_cancelled
from ai_stack.database import Database, credentials
from ai_stack.errors import AIStackError, Forbidden, Unauthenticated
from ai_stack.models.principals import (
    DEFAULT_PROJECT,
    EVERY_SCOPE,
    SCOPES_OF,
    Principal,
    Scope,
    earliest,
)
from ai_stack.models.trust import Credential, Limits, Membership
from ai_stack.services.auth import credentials as tokens
from ai_stack.services.auth.credentials import Carried, Pairs
from ai_stack.services.auth.lookups import Lookups
from ai_stack.services.auth.secrets import Secrets

Mode: TypeAlias = Literal["auto", "off", "required"]
# What reads one kind of token: None for a token of another kind.
Reader: TypeAlias = Callable[[str], Awaitable[Credential | None]]

KNOWN = 10_000
RETRY_S, USES_S, REMEMBERED_S = 1.0, 30.0, 5.0
LOCAL = Principal()
FIRST = datetime.min.replace(tzinfo=UTC)
REFUSED = "These credentials are not valid, or not any more."

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Identity:
    """Resolves what a request carries to a Principal; `readers` know the kinds of tokens.

    `heard` is called as rights have changed, for what else is remembered of them.
    """

    database: Database
    secrets: Secrets
    mode: Mode
    grace_s: float
    readers: tuple[Reader, ...] = ()
    lookups: Lookups = field(default_factory=Lookups)
    heard: Callable[[], None] = lambda: None
    _known: dict[bytes, tuple[Principal, float]] = field(default_factory=dict)
    _required: bool = True
    _heard_at: float = float("-inf")
    _changes: int = 0
    _uses: dict[str, float] = field(default_factory=dict)

    @property
    def is_required(self) -> bool:
        """Whether a request has to say who it is."""
        return self._required

    def known(self, pairs: Pairs) -> Principal | None:
        """The principal that was found for the very same headers, where that still holds."""
        if not (self._required or any(name == b"x-project" for name, _ in pairs)):
            return LOCAL
        found, now = self._known.get(tokens.digest(pairs)), time.time()
        if found is None or now >= found[1]:
            return None
        if time.monotonic() - self._heard_at > self.grace_s:
            return None
        if found[0].key_id is not None:
            self._uses[found[0].key_id] = now
        return found[0]

    async def resolve(self, pairs: Pairs) -> Principal:
        """Who asks. Raises Unauthenticated, Forbidden for a project that is not the caller's,
        and DatabaseUnavailable while nobody can be looked up."""
        found = self.known(pairs)
        if found is not None:
            return found
        carried = tokens.read(pairs)
        async with self._turn(carried.token):
            return self.known(pairs) or await self._resolved(pairs, carried)

    async def _resolved(self, pairs: Pairs, carried: Carried) -> Principal:
        changes = self._changes
        principal, until = await self._found(carried)
        if changes == self._changes:  # nobody's rights have changed meanwhile
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[tokens.digest(pairs)] = principal, until
        return principal

    async def _found(self, carried: Carried) -> tuple[Principal, float]:
        if not self._required:
            return await self._local(carried), float("inf")
        if carried.token is None:
            raise Unauthenticated
        credential, _ = await self._latest(carried)
        until = float("inf") if credential.expires_at is None else credential.expires_at.timestamp()
        return principal_of(credential, carried.project), until

    async def _local(self, carried: Carried) -> Principal:
        """Without authentication everybody on this machine is its owner."""
        if carried.project is None:
            return LOCAL
        chosen = _chosen(await credentials.projects(self.database), carried.project)
        return Principal(chosen.project_id)

    async def credential(self, token: str) -> Credential:
        """What is known of a token, whatever its kind; Unauthenticated."""
        async with self._turn(token):
            return await self._credential(token)

    async def login(self, carried: Carried) -> tuple[Credential, str]:
        """What is known of a browser's login, and which it is of several; Unauthenticated."""
        async with self._turn(carried.token):
            return await self._latest(carried)

    async def _latest(self, carried: Carried) -> tuple[Credential, str]:
        """The credential that was carried, of several logins the one that ends last."""
        found = list[tuple[Credential, str]]()
        for token in carried.logins:
            with suppress(Unauthenticated):
                found.append((await self._credential(token), token))
        if found:
            return max(found, key=lambda one: one[0].expires_at or FIRST)
        token = carried.token or ""
        return await self._credential(token), token

    def _turn(self, token: str | None) -> AbstractAsyncContextManager[None]:
        """A turn to look a token up. A JWT's issuer may have to be asked, so what reads those
        takes a turn by itself, once a signature is proven."""
        return nullcontext() if token is None or "." in token else self.lookups

    async def _credential(self, token: str) -> Credential:
        if not token or len(token) > tokens.LONGEST or not token.isascii():
            raise Unauthenticated(REFUSED)
        for read in (self._operator, self._key, *self.readers):
            found = await read(token)
            if found is not None:
                return _checked(found)
        raise Unauthenticated(REFUSED)

    async def _operator(self, token: str) -> Credential | None:
        """Who can read the stack's secrets may do everything."""
        if not tokens.is_operator(token, self.secrets.operator):
            return None
        projects = await credentials.projects(self.database)
        soon = datetime.now(UTC) + timedelta(seconds=REMEMBERED_S)
        return Credential("operator", EVERY_SCOPE, projects, expires_at=soon, renewable=True)

    async def _key(self, token: str) -> Credential | None:
        id = tokens.id_of_key(token)
        found = None if id is None else await credentials.find_key(self.database, id)
        hidden = tokens.hidden(token, self.secrets.pepper)
        return found if found is not None and tokens.same(found.secret, hidden) else None

    async def renewed(self, principal: Principal) -> Principal:
        """What is left of a principal's rights since it was resolved; raises as `resolve` does."""
        if principal.key_id is not None:
            found = await credentials.find_key(self.database, principal.key_id)
        elif principal.user_id is not None:
            found = await credentials.find_user(self.database, principal.user_id)
        else:
            return principal
        if found is None:
            raise Unauthenticated(REFUSED)
        now = principal_of(_checked(found), str(principal.project_id))
        ends = earliest(now.expires_at, principal.expires_at)
        return replace(now, scopes=now.scopes & principal.scopes, expires_at=ends)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow whose rights change, and note when keys are used, while the block lasts."""
        self.database.audited = self._changed
        await self.renew()
        try:
            async with alongside(self._follow(), self._note()):
                yield
        finally:
            with suppress(AIStackError):
                await self._write_uses()

    async def _changed(self) -> None:
        """This gateway has changed somebody's rights: what is answered next is told by the new."""
        with suppress(AIStackError):
            await self.renew()

    async def renew(self) -> None:
        """Forget every verdict: somebody's rights may have changed."""
        self._forget()
        required = self.mode == "required"
        if self.mode == "auto":
            required = await credentials.are_any(self.database)
        self._required = required
        self._forget()  # what was found out meanwhile, when nobody had to say who he is

    def _forget(self) -> None:
        self._changes += 1
        self._known.clear()
        self.heard()

    async def _follow(self) -> None:
        while not is_cancelled():
            with suppress(AIStackError):
                await self._listen()
            await asyncio.sleep(RETRY_S)

    async def _listen(self) -> None:
        try:
            async for changed in credentials.changes(self.database):
                if changed:
                    await self.renew()
                self._heard_at = time.monotonic()
        except credentials.LOST as error:
            log.warning("changes of rights cannot be heard: %s", type(error).__name__)

    async def _note(self) -> None:
        while not is_cancelled():
            await asyncio.sleep(USES_S)
            with suppress(AIStackError):
                await self._write_uses()

    async def _write_uses(self) -> None:
        uses, self._uses = self._uses, {}
        if uses:
            moments = {id: datetime.fromtimestamp(at, UTC) for id, at in uses.items()}
            await credentials.note_uses(self.database, moments)


def principal_of(credential: Credential, project: str | None) -> Principal:
    """What a credential allows in one of its projects; Forbidden where it is none of them."""
    chosen = _chosen(_allowed(credential), project)
    return Principal(
        project_id=chosen.project_id,
        name=credential.name,
        scopes=_scopes(credential, chosen),
        key_id=credential.key_id,
        user_id=None if credential.owner is None else credential.owner.id,
        toolsets=credential.toolsets,
        limits=_limits(credential, chosen),
        expires_at=None if credential.renewable else credential.expires_at,
    )


def _checked(credential: Credential) -> Credential:
    """The credential if it holds now: neither revoked nor expired, its owner not suspended."""
    expired = credential.expires_at is not None and credential.expires_at < datetime.now(UTC)
    owner = credential.owner
    if credential.revoked or expired or (owner is not None and owner.state != "active"):
        raise Unauthenticated(REFUSED)
    return credential


def _allowed(credential: Credential) -> tuple[Membership, ...]:
    """The projects of a credential; those of a user's that the user is a member of still."""
    if credential.owner is None or credential.owner.is_admin:
        return credential.projects
    return tuple(one for one in credential.projects if one.role is not None)


def _chosen(projects: tuple[Membership, ...], wanted: str | None) -> Membership:
    """The project that is asked for by id or name; else the default one, else the first.

    A name that looks like the id of another project does not stand for it.
    """
    open_ones = [one for one in projects if one.state == "active"]
    if wanted is not None:
        by_id = [one for one in open_ones if wanted == str(one.project_id)]
        open_ones = by_id or [one for one in open_ones if wanted == one.name]
    if not open_ones:
        raise Forbidden("These credentials are for no project that is open, or not for this one.")
    return next((one for one in open_ones if one.project_id == DEFAULT_PROJECT), open_ones[0])


def _scopes(credential: Credential, chosen: Membership) -> frozenset[Scope]:
    """A user's credential brings no more than the user's role in this project."""
    if credential.owner is None or credential.owner.is_admin:
        return credential.scopes
    return credential.scopes & (SCOPES_OF[chosen.role] if chosen.role else frozenset())


def _limits(credential: Credential, chosen: Membership) -> Mapping[str, Limits]:
    """Limits of the key and of the project, each under what it counts for.

    What a key uses counts for its makers too, so its own limits are told where they are stricter.
    """
    found, least = dict[str, Limits](), dict[str, int]()
    for subject, limits in credential.limits.items():
        found[subject] = {n: m for n, m in limits.items() if n not in least or m < least[n]}
        least |= found[subject]
    found[f"project:{chosen.project_id}"] = chosen.limits
    return {subject: limits for subject, limits in found.items() if limits}
