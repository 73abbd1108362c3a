"""Who comes from an issuer: the user that a subject is, or becomes where the issuer's entry allows.

A subject is never taken for a user by name or address: who chooses those at an issuer could
choose somebody else's.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from ai_stack.database import Database, Transaction, audit, sign_ons, users
from ai_stack.errors import AIStackError, AlreadyExists, Forbidden
from ai_stack.models.principals import Role
from ai_stack.services.auth.issuers import Grant, Issuer
from ai_stack.services.auth.proofs import Claims
from ai_stack.services.auth.users import checked_name

RANK: Mapping[Role, int] = {"reader": 0, "editor": 1, "owner": 2}
UNKNOWN = "This account is not known here: ask who operates the stack to let you in."
MOST_GROUPS = 1000
OUTSIDE = re.compile(r"[^a-z0-9._+-]+")


@dataclass(frozen=True, slots=True)
class Newcomers:
    """Finds the user of an issuer's claims, and keeps the roles that groups bring."""

    database: Database

    async def is_known(self, issuer: Issuer, subject: str) -> bool:
        """Whether a subject is a user already."""
        async with self.database.control() as tx:
            return await sign_ons.user_of(tx, issuer.issuer, subject) is not None

    async def user(self, issuer: Issuer, claims: Claims) -> UUID:
        """The user of these claims, made where the issuer's entry allows it; Forbidden."""
        try:
            return await self._user(issuer, claims)
        except AlreadyExists:  # by another request at the same time
            return await self._user(issuer, claims)

    async def _user(self, issuer: Issuer, claims: Claims) -> UUID:
        subject = claims["sub"]
        async with self.database.control() as tx:
            id = await sign_ons.user_of(tx, issuer.issuer, subject)
            if id is None:
                id = await self._made(tx, issuer, claims)
            await _keep_roles(tx, issuer, claims, id)
            return id

    async def _made(self, tx: Transaction, issuer: Issuer, claims: Claims) -> UUID:
        if not is_welcome(issuer, claims):
            raise Forbidden(UNKNOWN)
        id, name = tx.new_id(), await _free_name(tx, issuer, claims)
        if not await users.insert(tx, id, name, None, is_admin=False, temporary=False):
            raise AlreadyExists
        if not await users.insert_identity(tx, issuer.issuer, claims["sub"], id):
            raise AlreadyExists
        for grant in issuer.grants:
            await sign_ons.set_role(tx, id, grant.project, grant.role)
        told = {"name": name, "issuer": issuer.name, "subject": claims["sub"]}
        await audit.record(tx, f"issuer {issuer.name}", "user.create", str(id), detail=told)
        return id


def is_welcome(issuer: Issuer, claims: Claims) -> bool:
    """Whether the issuer's entry lets a subject in whom nobody has bound to a user."""
    if issuer.newcomers or claims["sub"] in issuer.admins:
        return True
    address = verified_address(claims)
    return address is not None and address.rpartition("@")[2] in issuer.domains


def verified_address(claims: Claims) -> str | None:
    """The mail address that the issuer itself vouches for, in lower case."""
    address = claims.get("email")
    if claims.get("email_verified") is not True or not isinstance(address, str):
        return None
    name, at, domain = address.strip().lower().rpartition("@")
    return f"{name}@{domain}" if name and at and domain and "@" not in name else None


async def _free_name(tx: Transaction, issuer: Issuer, claims: Claims) -> str:
    """A name that is nobody's: those that an issuer's users choose end with the issuer's."""
    for candidate in _names(issuer, claims):
        try:
            name = checked_name(candidate)
        except AIStackError:
            continue
        if await users.user(tx, name) is None:
            return name
    raise Forbidden("No name is left for this account.")


def _names(issuer: Issuer, claims: Claims) -> Iterable[str]:
    address = verified_address(claims)
    if address is not None and address.rpartition("@")[2] in issuer.domains:
        yield address
    told = claims.get("preferred_username") or address or claims["sub"]
    chosen = OUTSIDE.sub("-", str(told).lower()).strip("._+-")[:100]
    yield f"{chosen}@{issuer.name}"
    digest = hashlib.sha256(claims["sub"].encode()).hexdigest()
    yield f"{digest[:16]}@{issuer.name}"


async def _keep_roles(tx: Transaction, issuer: Issuer, claims: Claims, id: UUID) -> None:
    """Bring the user's roles in the projects that `roles` names to what the groups say now."""
    changed = await sign_ons.promote(tx, id) if claims["sub"] in issuer.admins else False
    told = claims.get(issuer.roles_claim)
    if issuer.roles and told is not None:
        changed = await _set_roles(tx, issuer, _groups(told), id) or changed
    if changed:
        await audit.record(tx, f"issuer {issuer.name}", "user.roles", str(id))


async def _set_roles(tx: Transaction, issuer: Issuer, groups: set[str], id: UUID) -> bool:
    granted = highest(grant for group in groups for grant in issuer.roles.get(group, ()))
    managed = {grant.project for grants in issuer.roles.values() for grant in grants}
    gone = await sign_ons.remove_roles(tx, id, managed - granted.keys())
    given = [await sign_ons.set_role(tx, id, project, role) for project, role in granted.items()]
    return bool(gone) or any(given)


def highest(grants: Iterable[Grant]) -> dict[str, Role]:
    """The most that several grants give in each project."""
    found: dict[str, Role] = {}
    for grant in grants:
        if grant.project not in found or RANK[grant.role] > RANK[found[grant.project]]:
            found[grant.project] = grant.role
    return found


def _groups(told: object) -> set[str]:
    several = told.split() if isinstance(told, str) else told
    found = several if isinstance(several, list) else []
    return {group for group in found[:MOST_GROUPS] if isinstance(group, str)}
