"""Logging in by a name and a password, and changing one's password.

Whether a name exists is told to nobody: what is wrong answers the same after the same time.
"""

import ipaddress
from dataclasses import dataclass, field
from math import ceil

from ai_stack.database import Database, attempts, audit, logins, users
from ai_stack.database.attempts import Rule
from ai_stack.database.logins import Kind
from ai_stack.database.users import Known
from ai_stack.errors import InvalidRequest, LimitExceeded, PasswordExpired, Unauthenticated
from ai_stack.services.auth.credentials import hidden
from ai_stack.services.auth.hashing import Door, Hashing, chosen, typed
from ai_stack.services.auth.logins import Logins
from ai_stack.services.auth.secrets import Secrets

LONGEST_NAME = 255
AT_ONCE, WAITING = 3, 64  # so that strangers do not take every connection to the database
WRONG = "This name and password do not go together, or this user may not log in."
# A stranger can bring about the pause of a name, so it is short; 1,440 guesses a day are too few.
BY_NAME, BY_ADDRESS = Rule(free=5, most_s=60), Rule(free=20, most_s=900)


@dataclass(frozen=True, slots=True)
class Passwords:
    """Who a name and a password stand for."""

    database: Database
    secrets: Secrets
    hashing: Hashing
    logins: Logins
    door: Door = field(default_factory=lambda: Door(AT_ONCE, WAITING))

    async def login(self, name: str, password: str, address: str, kind: Kind) -> str:
        """A new login's token.

        Raises Unauthenticated; LimitExceeded after failures of this name or from this address,
        for longer and longer; PasswordExpired for a password that has to be changed first.
        """
        password = typed(password)
        user = await self._checked(name, password, address)
        if user.temporary:
            raise PasswordExpired
        if user.password is not None and self.hashing.is_dated(user.password):
            hash = await self.hashing.hash(password)
            await users.rehash(self.database, user.id, user.password, hash)
        return await self.logins.begin(user.id, kind, generation=user.generation)

    async def change(self, name: str, password: str, new: str, address: str) -> None:
        """Put another password in a password's place; every login of the user ends.

        Raises as `login` does, and InvalidRequest for a new password that will not do.
        """
        new, old = chosen(new), typed(password)
        if new == old:
            raise InvalidRequest("The new password is the old one.")
        user = await self._checked(name, old, address)
        hash = await self.hashing.hash(new)
        async with self.database.control() as tx:
            if not await users.replace_password(tx, user.id, user.password or "", hash):
                raise Unauthenticated(WRONG)
            await logins.delete_all(tx, user.id)
            await audit.record(tx, user.name, "user.password", str(user.id), detail={"own": True})

    async def _checked(self, name: str, password: str, address: str) -> Known:
        async with self.door:
            return await self._looked_up(name, password, address)

    async def _looked_up(self, name: str, password: str, address: str) -> Known:
        name = name.strip().lower()[: LONGEST_NAME + 1].replace("\0", " ")
        subjects = self._subject("name", name), self._subject("address", network(address))
        await self._take(*subjects)
        user = await users.by_name(self.database, name) if name.isascii() else None
        hash = None if user is None else user.password
        right = await self.hashing.matches(hash, password)
        if user is None or hash is None or not right or user.state != "active":
            raise Unauthenticated(WRONG)
        await attempts.forgive(self.database, *subjects)
        return user

    async def _take(self, by_name: bytes, by_address: bytes) -> None:
        async with self.database.control() as tx:
            left_s = await attempts.take(tx, {by_name: BY_NAME, by_address: BY_ADDRESS})
        if left_s > 0:
            seconds = ceil(left_s)
            raise LimitExceeded(
                f"Too many attempts have failed: try again in {seconds} s.", opens_in_s=seconds
            )

    def _subject(self, kind: str, value: str) -> bytes:
        return hidden(f"{kind} {value!a}", self.secrets.pepper)

    async def sweep(self) -> int:
        """Forget the failures that count no more; how many there were."""
        return await attempts.sweep(self.database)


def network(address: str) -> str:
    """Whose attempts count together: an IPv4 address, or the network of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
