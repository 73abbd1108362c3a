"""Users: made, listed, suspended, let in again and removed by those who operate the stack."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ai_stack.database import Database, Transaction, audit, logins, users
from ai_stack.errors import AlreadyExists, Forbidden, InvalidRequest, NotFound
from ai_stack.models.principals import EVERY_SCOPE, Principal, Scope
from ai_stack.models.trust import NewUser, User, UserState
from ai_stack.services.auth.hashing import Hashing, chosen, new_password
from ai_stack.services.cursors import cursor_of, position_of

NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,254}")
UUID_LIKE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TAKEN = frozenset({"operator", "local"})  # who the audit log calls so is somebody else
LONGEST_SUBJECT = 255

Change: TypeAlias = Callable[[Transaction, User], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class UserPage:
    """A page of users; `next_cursor` is None on the last."""

    items: Sequence[User]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Users:
    """The users of the stack; which projects they work in is told by their memberships."""

    database: Database
    hashing: Hashing

    async def create(self, principal: Principal, new: NewUser) -> tuple[User, str | None]:
        """A new user, and the password where one was made up, which is told this once.

        Raises InvalidRequest; AlreadyExists for a name or an issuer's subject that is taken;
        Forbidden for a user who may do more than the caller.
        """
        principal.require(Scope.OPERATE)
        if new.is_admin:
            _require_everything(principal)
        name = checked_name(new.name)
        _check_subject(new)
        given, made_up = _first_password(new)
        hash = None if given is None else await self.hashing.hash(given)
        async with self.database.control() as tx:
            await _insert(tx, name, hash, new, temporary=new.temporary or made_up is not None)
            made = await _found(tx, name)
            detail = {"issuer": new.issuer, "subject": new.subject, "is_admin": new.is_admin}
            await _record(tx, principal, "user.create", made, **detail)
        return made, made_up

    async def get(self, principal: Principal, called: str) -> User:
        """A user by name or id; NotFound."""
        principal.require(Scope.OPERATE)
        async with self.database.control() as tx:
            return await _found(tx, called)

    async def page(
        self, principal: Principal, *, limit: int = 100, cursor: str | None = None
    ) -> UserPage:
        """Users in the order of their making. Raises InvalidCursor."""
        principal.require(Scope.OPERATE)
        after = None if cursor is None else position_of(cursor)
        async with self.database.control() as tx:
            found = await users.users(tx, after=after, limit=limit + 1)
        items = found[:limit]
        return UserPage(items, cursor_of(items[-1].id) if len(found) > limit else None)

    async def set_state(self, principal: Principal, called: str, state: UserState) -> User:
        """Suspend a user, whose logins end and whose keys are refused; or let one in again."""

        async def change(tx: Transaction, user: User) -> None:
            await users.set_state(tx, user.id, state)
            if state == "suspended":
                await logins.delete_all(tx, user.id)

        action = "user.suspend" if state == "suspended" else "user.resume"
        return await self._changed(principal, called, action, change)

    async def set_admin(self, principal: Principal, called: str, is_admin: bool) -> User:
        """Let a user operate the stack, or no more; Forbidden to who may not do everything."""
        _require_everything(principal)

        async def change(tx: Transaction, user: User) -> None:
            await users.set_admin(tx, user.id, is_admin)

        action = "user.promote" if is_admin else "user.demote"
        return await self._changed(principal, called, action, change)

    async def set_password(
        self, principal: Principal, called: str, password: str | None, *, temporary: bool = False
    ) -> tuple[User, str | None]:
        """Give a user another password, made up where none is given; every login ends.

        Forbidden to who may not do everything, since this lets the caller be that user.
        """
        _require_everything(principal)
        made_up = new_password() if password is None else None
        hash = await self.hashing.hash(made_up or chosen(password or ""))

        async def change(tx: Transaction, user: User) -> None:
            passing = temporary or made_up is not None
            await users.set_password(tx, user.id, hash, temporary=passing)
            await logins.delete_all(tx, user.id)

        return await self._changed(principal, called, "user.password", change), made_up

    async def delete(self, principal: Principal, called: str) -> User:
        """Remove a user with all keys, logins and memberships. Raises NotFound."""
        principal.require(Scope.OPERATE)
        async with self.database.control() as tx:
            user = await _found(tx, called, to_change=True)
            await users.delete(tx, user.id)
            await _record(tx, principal, "user.delete", user)
        return user

    async def _changed(
        self, principal: Principal, called: str, action: str, change: Change
    ) -> User:
        principal.require(Scope.OPERATE)
        async with self.database.control() as tx:
            user = await _found(tx, called, to_change=True)
            await change(tx, user)
            await _record(tx, principal, action, user)
            return await _found(tx, str(user.id))


def checked_name(name: str) -> str:
    """A user's name as it is kept, in lower case; InvalidRequest."""
    found = name.strip().lower()
    if NAME.fullmatch(found) is None or UUID_LIKE.fullmatch(found) or found in TAKEN:
        raise InvalidRequest(
            "A user's name has 1 to 255 of the characters a-z, 0-9, '.', '_', '@', '+' and '-',"
            " begins with a letter or a digit, and is neither an id nor 'operator' nor 'local'.",
            fields={"name": "is no name for a user"},
        )
    return found


def _require_everything(principal: Principal) -> None:
    """Who gives away every right needs to have it."""
    if not principal.scopes >= EVERY_SCOPE:
        raise Forbidden("This takes every scope, since it gives every right.")


def _check_subject(new: NewUser) -> None:
    if (new.issuer is None) != (new.subject is None):
        raise InvalidRequest("An issuer and its subject go together.")
    told = f"{new.issuer or '-'}{new.subject or '-'}"
    if not told.isprintable() or len(told) > 2 * LONGEST_SUBJECT or "" in (new.issuer, new.subject):
        raise InvalidRequest("This is no issuer, or no subject of one.")


def _first_password(new: NewUser) -> tuple[str | None, str | None]:
    """The password to keep, and the same where it was made up."""
    if new.password is not None:
        return chosen(new.password), None
    if new.issuer is not None:
        return None, None
    made_up = new_password()
    return made_up, made_up


async def _insert(
    tx: Transaction, name: str, hash: str | None, new: NewUser, *, temporary: bool
) -> None:
    id = tx.new_id()
    if not await users.insert(tx, id, name, hash, is_admin=new.is_admin, temporary=temporary):
        raise AlreadyExists("There is a user of this name.")
    if new.issuer is None or new.subject is None:
        return
    if not await users.insert_identity(tx, new.issuer, new.subject, id):
        raise AlreadyExists("This issuer's subject is a user already.")


async def _found(tx: Transaction, called: str, *, to_change: bool = False) -> User:
    called = called.strip().lower()
    known = NAME.fullmatch(called) is not None
    found = await users.user(tx, called, to_change=to_change) if known else None
    if found is None:
        raise NotFound("There is no user of this name or id.")
    return found


async def _record(
    tx: Transaction, principal: Principal, action: str, user: User, **detail: object
) -> None:
    told = {"name": user.name, **{name: value for name, value in detail.items() if value}}
    await audit.record(tx, principal.name, action, str(user.id), detail=told)
