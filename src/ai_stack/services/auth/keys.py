"""API keys: made, listed, rotated and revoked by those who manage a project."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from ai_stack.database import Database, Transaction, audit, credentials
from ai_stack.errors import Forbidden, InvalidCursor, InvalidRequest, NotFound, Unauthenticated
from ai_stack.models.principals import Principal, Scope, earliest
from ai_stack.models.trust import Key, Limits, NewKey
from ai_stack.services.auth.credentials import hidden, new_key
from ai_stack.services.auth.secrets import Secrets
from ai_stack.services.limits.rules import MOST, check_limits

LONGEST_NAME = 255
DEEPEST = 8  # keys that make keys that make keys: each looks up, and counts for, all above it


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

        One that a key makes has no more than that, and what it uses counts for its maker too. It
        ends no later than the key or token it was made with; a login ends before it, since the
        user, whose rights as of then bound it, could log in again and make another.
        Raises InvalidRequest; Forbidden for more than the caller has; NotFound for a project.
        """
        principal.require(Scope.MANAGE)
        _check(new)
        _check_scopes(principal, new.scopes)
        id, token = new_key()
        async with self.database.control() as tx:
            projects = await _projects(tx, principal, new.projects)
            key = _key(id, principal, new, projects, await _maker(tx, principal))
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

        Raises NotFound; Forbidden for a key that is neither the caller's own nor its user's, and
        for one that has more than the caller.
        """
        principal.require(Scope.MANAGE)
        new_id, token = new_key()
        async with self.database.control() as tx:
            old = await _locked(tx, principal, id)
            _check_rotation(principal, old)
            _check_no_wider(principal, await _own(tx, principal), old)
            secret = hidden(token, self.secrets.pepper)
            await credentials.replace_secret(tx, id, new_id, secret)
            made = await _found(tx, principal, new_id)
            await _record(tx, principal, "key.rotate", old, to=new_id)
        return made, token

    async def revoke(self, principal: Principal, id: str) -> Key:
        """Refuse a key and every key that it made from now on, everywhere; twice is harmless.

        Raises NotFound.
        """
        principal.require(Scope.MANAGE)
        async with self.database.control() as tx:
            await credentials.revoke_one_at_a_time(tx)
            old = await _locked(tx, principal, id)
            if old.revoked_at is None:
                await credentials.revoke(tx, id)
                await _record(tx, principal, "key.revoke", old)
                await _revoke_made(tx, principal, old)
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


async def _revoke_made(tx: Transaction, principal: Principal, maker: Key) -> None:
    for id in await credentials.revoke_made(tx, maker.root):
        made = await credentials.key(tx, id, None)
        assert made is not None
        await _record(tx, principal, "key.revoke", made, made_by=made.maker)


async def _own(tx: Transaction, principal: Principal) -> Key | None:
    """The caller's key; Unauthenticated if it is revoked by now."""
    if principal.key_id is None:
        return None
    own = await credentials.key(tx, principal.key_id, None)
    if own is None or own.revoked_at is not None:
        raise Unauthenticated
    return own


async def _maker(tx: Transaction, principal: Principal) -> Key | None:
    """The key that makes another, while nobody revokes it. Raises as `_own`; Forbidden."""
    if principal.key_id is None:
        return None
    await credentials.lock(tx, principal.key_id)
    if await credentials.depth(tx, principal.key_id) >= DEEPEST:
        raise Forbidden("A key made by a key, and so on, makes no more keys at this depth.")
    return await _own(tx, principal)


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


def _check_scopes(principal: Principal, scopes: frozenset[Scope]) -> None:
    more = sorted(scope.value for scope in scopes - principal.scopes)
    if more:
        raise Forbidden(f"You cannot give what you do not have: {', '.join(more)}.")


def _check_rotation(principal: Principal, old: Key) -> None:
    if old.revoked_at is not None:
        raise InvalidRequest("A key that is revoked is not rotated: make a new one.")
    is_own = old.id == principal.key_id
    is_own |= old.user_id is not None and old.user_id == principal.user_id
    if not (is_own or principal.allows(Scope.OPERATE)):
        raise Forbidden("This key is another's: revoke it, or have its owner rotate it.")
    _check_scopes(principal, frozenset(map(Scope, old.scopes)))


def _check_no_wider(principal: Principal, own: Key | None, old: Key) -> None:
    """Return where who rotates a key, and is told the secret, gains nothing by it; Forbidden."""
    ends = earliest(principal.expires_at, None if own is None else own.expires_at)
    limits = {} if own is None else own.limits
    more = {
        "toolsets": not _is_within(old.toolsets, principal.toolsets),
        "limits": any(old.limits.get(name, MOST + 1) > most for name, most in limits.items()),
        "time": ends is not None and (old.expires_at is None or old.expires_at > ends),
    }
    if wider := [name for name, is_more in more.items() if is_more]:
        raise Forbidden(f"This key has more than you have: {', '.join(wider)}.")


def _is_within(toolsets: Sequence[str] | None, bounds: frozenset[str] | None) -> bool:
    return bounds is None or (toolsets is not None and bounds.issuperset(toolsets))


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


def _key(
    id: str, principal: Principal, new: NewKey, projects: tuple[UUID, ...], maker: Key | None
) -> Key:
    return Key(
        id=id,
        name=new.name,
        scopes=tuple(sorted(new.scopes)),
        projects=projects,
        toolsets=_toolsets(principal, new),
        limits=_bounded(new.limits, {} if maker is None else maker.limits),
        user_id=principal.user_id,
        created_at=datetime.now(UTC),
        created_by=principal.name,
        expires_at=earliest(
            new.expires_at, principal.expires_at, None if maker is None else maker.expires_at
        ),
        revoked_at=None,
        used_at=None,
        root=id,
        maker=None if maker is None else maker.root,
    )


def _bounded(limits: Limits, own: Limits) -> Limits:
    """A key that makes keys gives them no more than it has itself."""
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
