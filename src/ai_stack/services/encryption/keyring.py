"""The data keys that are in use, unwrapped and held in memory as long as the process lives."""

import logging
import os
import secrets
from dataclasses import dataclass, field

from ai_stack.database import Database, data_keys
from ai_stack.database.data_keys import WrappedKey
from ai_stack.database.sealing import NUMBER
from ai_stack.errors import SettingsError, StackError
from ai_stack.services.encryption import envelopes
from ai_stack.services.encryption.masters import Master, MasterFiles

log = logging.getLogger(__name__)

LOST = (
    "What {count} projects keep is sealed under the master key {id}, which is not in {file}. "
    "Restore that file (AI_STACK_MASTER_KEY_FILE names another); nothing was changed."
)


@dataclass(frozen=True, slots=True, repr=False)
class DataKey:
    """Seals and opens what belongs to one project."""

    id: int
    secret: bytes

    def seal(self, place: str, plaintext: bytes) -> bytes:
        aad = f"{place}|{self.id}".encode()
        return NUMBER.pack(self.id) + envelopes.seal(self.secret, plaintext, aad)

    def open(self, place: str, sealed: bytes) -> bytes:
        return envelopes.open(self.secret, sealed[NUMBER.size :], f"{place}|{self.id}".encode())


@dataclass(slots=True, repr=False)
class Keyring:
    """Data keys by their ids; the masters are read again when one is missing."""

    files: MasterFiles
    _keys: dict[int, DataKey] = field(default_factory=dict)
    _masters: dict[str, Master] = field(default_factory=dict)

    def known(self, id: int) -> DataKey | None:
        return self._keys.get(id)

    def admit(self, id: int, master: str, wrapped: bytes) -> DataKey:
        """Unwrap a key; raises StackError where its master is missing, or is another one."""
        found = self._master(master)
        if found is None:
            log.error("the master key %s is not in %s", master, self.files.file)
            raise StackError("The master key is missing that this project's data key is under.")
        key = self._keys[id] = DataKey(id, found.unwrap(id, wrapped))
        return key

    def _master(self, id: str) -> Master | None:
        if id not in self._masters:
            self._masters = self.files.read()
        return self._masters.get(id)

    async def check(self, database: Database) -> None:
        """Refuse to start where what is sealed could not be opened; finish a rotation else.

        Raises SettingsError. Nothing is written but the name of a file whose rotation had got as
        far as that.
        """
        self._masters = self.files.read()
        async with database.control() as tx:
            used = await data_keys.masters(tx)
        for found in used:
            master = self._masters.get(found.id)
            if found.projects and (master is None or not master.opens(found.check_value)):
                told = {"count": found.projects, "id": found.id, "file": self.files.file}
                raise SettingsError(LOST.format(**told))
        self._settle({found.id for found in used})

    def _settle(self, used: set[str]) -> None:
        """Where all keys are under the successor, it is the master."""
        if len(used) == 1 and self.files.next.exists() and self.files.file.exists():
            successor = self.files.successor()
            if successor.id in used and self.files.current().id not in used:
                self.files.succeed()

    async def own(self, database: Database) -> bytes:
        """The key of the stack's own secrets, made where there is none.

        One that cannot be unwrapped any more is replaced: what it sealed can be made anew.
        """
        async with database.control() as tx:
            found = await data_keys.own(tx)
        key = None if found is None else self._opened(found)
        if key is not None:
            return key.secret
        if found is not None:
            log.warning("the stack's own data key cannot be unwrapped, and is made anew")
        async with database.control() as tx:
            made = self.make()
            await data_keys.add_master(tx, made.master, self.files.current().check_value())
            await data_keys.put_own(tx, made, instead_of=None if found is None else found.id)
            stored = await data_keys.own(tx)
        if stored is None:
            raise StackError("No data key could be kept.")
        return self.admit(stored.id, stored.master, stored.wrapped).secret

    def _opened(self, found: WrappedKey) -> DataKey | None:
        try:
            return self.admit(found.id, found.master, found.wrapped)
        except StackError:
            return None

    def make(self) -> WrappedKey:
        """A new data key under the master in force, which is made where there is none."""
        master, id = self.files.current(), secrets.randbelow(2**31 - 1) + 1
        return WrappedKey(id, master.id, master.wrap(id, os.urandom(envelopes.KEY_BYTES)))
