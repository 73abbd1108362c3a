"""API keys: made, listed, rotated and revoked by those who manage a project."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from ai_stack.database import Database, Transaction, audit, credentials
from ai_stack.errors import Forbidden, InvalidCursor, InvalidRequest, NotFound, Unauthenticated
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.trust import Key, Limits, NewKey
from ai_stack.services.auth.credentials import hidden, new_key
from ai_stack.services.auth.secrets import Secrets
from ai_stack.services.limits.rules import MOST, NAMES, PLAIN

LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class KeyPage:
    """A page of keys; `next_cursor` is None on the last."""

    items: Sequence[Key]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a project; who may operate the stack sees those of all."""

    database: Database
    secrets: Secrets

    async def create(self, principal: Principal, new: NewKey) -> tuple[Key, str]:
        """A new key and its secret, which is told this once.

        One that a key makes has no more than that: limits, toolsets, and when it expires.
        Raises InvalidRequest; Forbidden for more than the caller has; NotFound for a project.
        """
        principal.require(Scope.MANAGE)
        _check(new)
        _check_scopes(principal, new.scopes)
        id, token = new_key()
        async with self.database.control() as tx:
            projects = await _projects(tx, principal, new.projects)
            bounds = await _bounds(tx, principal)
            key = replace(
                _key(id, principal, new, projects),
                toolsets=_toolsets(principal, new),
                expires_at=min((m for m in (new.expires_at, bounds) if m), default=None),
            )
            await credentials.insert_key(tx, key, hidden(token, self.secrets.pepper))
            made = await _found(tx, principal, id)
            await _record(tx, principal, "key.create", made)
        return made, token

    async def get(self, principal: Principal, id: str) -> Key:
        """One key; NotFound."""
        principal.require(Scope.MANAGE)
        async with self.database.control() as tx:
            return await _found(tx, principal, id)

    async def page(
        self, principal: Principal, *, limit: int = 100, cursor: str | None = None
    ) -> KeyPage:
        """Keys in the order of their making, those that hold no more among them."""
        principal.require(Scope.MANAGE)
        if cursor is not None and not cursor.isalnum():
            raise InvalidCursor
        async with self.database.control() as tx:
            found = await credentials.keys(tx, _seen(principal), after=cursor, limit=limit + 1)
        items = found[:limit]
        return KeyPage(items, items[-1].id if len(found) > limit else None)

    async def rotate(self, principal: Principal, id: str) -> tuple[Key, str]:
        """Another key in this one's place, which is refused from now on.

        Raises NotFound; Forbidden for a key of another user, or with more rights than the caller.
        """
        principal.require(Scope.MANAGE)
        new_id, token = new_key()
        async with self.database.control() as tx:
            old = await _locked(tx, principal, id)
            _check_rotation(principal, old)
            secret = hidden(token, self.secrets.pepper)
            await credentials.replace_secret(tx, id, new_id, secret)
            made = await _found(tx, principal, new_id)
            await _record(tx, principal, "key.rotate", old, to=new_id)
        return made, token

    async def revoke(self, principal: Principal, id: str) -> Key:
        """Refuse a key from now on, everywhere; twice is harmless. Raises NotFound."""
        principal.require(Scope.MANAGE)
        async with self.database.control() as tx:
            old = await _locked(tx, principal, id)
            await credentials.revoke(tx, id)
            if old.revoked_at is None:
                await _record(tx, principal, "key.revoke", old)
            return await _found(tx, principal, id)


async def _found(tx: Transaction, principal: Principal, id: str) -> Key:
    found = await credentials.key(tx, id, _seen(principal)) if id.isalnum() else None
    if found is None:
        raise NotFound("There is no key of this id here.")
    return found


async def _locked(tx: Transaction, principal: Principal, id: str) -> Key:
    """The key, while nobody else changes it: who rotates one that is just revoked gets nothing."""
    await _found(tx, principal, id)
    await credentials.lock(tx, id)
    return await _found(tx, principal, id)


async def _bounds(tx: Transaction, principal: Principal) -> datetime | None:
    """When the key expires that makes another; Unauthenticated if it is revoked by now."""
    if principal.key_id is None:
        return None
    await credentials.lock(tx, principal.key_id)
    maker = await credentials.key(tx, principal.key_id, None)
    if maker is None or maker.revoked_at is not None:
        raise Unauthenticated
    return maker.expires_at


def _toolsets(principal: Principal, new: NewKey) -> tuple[str, ...] | None:
    if principal.toolsets is None:
        return None if new.toolsets is None else tuple(sorted(new.toolsets))
    wanted = principal.toolsets if new.toolsets is None else new.toolsets
    if more := sorted(wanted - principal.toolsets):
        raise Forbidden(f"You cannot give toolsets that you do not have: {', '.join(more)[:200]}.")
    return tuple(sorted(wanted))


def _seen(principal: Principal) -> UUID | None:
    """The project whose keys a caller sees; None for all."""
    return None if principal.allows(Scope.OPERATE) else principal.project_id


def _check(new: NewKey) -> None:
    if not 0 < len(new.name) <= LONGEST_NAME or not new.name.isprintable():
        raise InvalidRequest(f"A key's name has 1 to {LONGEST_NAME} printable characters.")
    if not new.scopes:
        raise InvalidRequest("A key needs a scope at least.", fields={"scopes": "none is given"})
    if new.expires_at is not None and new.expires_at <= datetime.now(UTC):
        raise InvalidRequest("A key cannot have expired already.", fields={"expires_at": "is over"})
    check_limits(new.limits)


def check_limits(limits: Limits) -> None:
    """Return for limits that can be kept; InvalidRequest names the others."""
    wrong = {name: "there is no such limit" for name in limits if name not in NAMES}
    wrong |= {n: f"must be 0 to {MOST}" for n, most in limits.items() if not 0 <= most <= MOST}
    if wrong:
        known = ", ".join(PLAIN)
        raise InvalidRequest(
            f"These limits cannot be kept; there are {known}, and chat.requests_per_minute and"
            " the like for one group of paths.",
            fields={name[:100]: reason for name, reason in wrong.items()},
        )


def _check_scopes(principal: Principal, scopes: frozenset[Scope]) -> None:
    more = sorted(scope.value for scope in scopes - principal.scopes)
    if more:
        raise Forbidden(f"You cannot give what you do not have: {', '.join(more)}.")


def _check_rotation(principal: Principal, old: Key) -> None:
    if old.revoked_at is not None:
        raise InvalidRequest("A key that is revoked is not rotated: make a new one.")
    if not principal.allows(Scope.OPERATE) and old.user_id != principal.user_id:
        raise Forbidden("This key is another's: revoke it, or have its owner rotate it.")
    _check_scopes(principal, frozenset(map(Scope, old.scopes)))


async def _projects(
    tx: Transaction, principal: Principal, wanted: Sequence[str]
) -> tuple[UUID, ...]:
    """The projects of a new key; who does not operate the stack gives only its own."""
    if not wanted:
        return (principal.project_id,)
    known = await credentials.projects_named(tx, [one for one in wanted if one.isprintable()])
    if not principal.allows(Scope.OPERATE):
        known = {name: id for name, id in known.items() if id == principal.project_id}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise NotFound(f"There is no project {missing[0][:100]!r} that you could give a key for.")
    return tuple(dict.fromkeys(known[name] for name in wanted))


def _key(id: str, principal: Principal, new: NewKey, projects: tuple[UUID, ...]) -> Key:
    return Key(
        id=id,
        name=new.name,
        scopes=tuple(sorted(new.scopes)),
        projects=projects,
        toolsets=None,
        limits=_bounded(principal, new.limits),
        user_id=principal.user_id,
        created_at=datetime.now(UTC),
        created_by=principal.name,
        expires_at=new.expires_at,
        revoked_at=None,
        used_at=None,
    )


def _bounded(principal: Principal, limits: Limits) -> Limits:
    """A key that makes keys gives them no more than it has itself."""
    own = principal.limits.get(f"key:{principal.key_id}", {})
    return {
        name: min(most for most in (limits.get(name), own.get(name)) if most is not None)
        for name in {*limits, *own}
    }


async def _record(
    tx: Transaction, principal: Principal, action: str, key: Key, **detail: object
) -> None:
    told = {"name": key.name, "scopes": key.scopes, **detail}
    project = key.projects[0] if key.projects else None
    await audit.record(tx, principal.name, action, key.id, project_id=project, detail=told)
