"""The master keys: files outside the database, read and renewed; what they wrap is for others.

The file beside the master's own whose name ends in `.next` is the master that a rotation goes to.
Either may be the one in force while a rotation is under way or was broken off, so both are tried.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ai_stack.disk import sync
from ai_stack.errors import SettingsError
from ai_stack.services.auth.secrets import SIZE, secret
from ai_stack.services.encryption import envelopes

CHECKED = b"This master key is the right one."
STRANGERS = 0o007


@dataclass(frozen=True, slots=True, repr=False)
class Master:
    """One master key; `id` tells it apart and gives nothing of it away."""

    id: str
    wrapping: bytes

    @classmethod
    def of(cls, content: bytes) -> "Master":
        id = envelopes.derive(content, "master id").hex()[:16]
        return cls(id, envelopes.derive(content, "data keys"))

    def wrap(self, key_id: int, data_key: bytes) -> bytes:
        return envelopes.seal(self.wrapping, data_key, self._place(key_id))

    def unwrap(self, key_id: int, wrapped: bytes) -> bytes:
        """The data key; raises Unopened."""
        return envelopes.open(self.wrapping, wrapped, self._place(key_id))

    def check_value(self) -> bytes:
        """What opens with this master alone, to be kept in the database."""
        return envelopes.seal(self.wrapping, CHECKED, self._check_place())

    def opens(self, check_value: bytes) -> bool:
        try:
            return envelopes.open(self.wrapping, check_value, self._check_place()) == CHECKED
        except envelopes.Unopened:
            return False

    def _place(self, key_id: int) -> bytes:
        return envelopes.place("data_keys", key_id, "wrapped", self.id)

    def _check_place(self) -> bytes:
        return envelopes.place("masters", self.id, "check_value", self.id)


@dataclass(frozen=True, slots=True)
class MasterFiles:
    """Where the master lies, and its successor during a rotation."""

    file: Path

    @property
    def next(self) -> Path:
        return self.file.with_name(f"{self.file.name}.next")

    def read(self) -> dict[str, Master]:
        """Those that there are, by their ids; SettingsError for a file that cannot be used."""
        contents = [_content(path) for path in (self.file, self.next) if path.exists()]
        return {found.id: found for found in map(Master.of, contents)}

    def current(self) -> Master:
        """The master, made where there is none."""
        secret(self.file.parent, self.file.name)
        return Master.of(_content(self.file))

    def successor(self) -> Master:
        """The master that a rotation goes to: the one that was put there, else a new one."""
        secret(self.next.parent, self.next.name)
        return Master.of(_content(self.next))

    def succeed(self) -> bool:
        """Have the successor be the master, and keep the old one under its id for old backups.

        False where the folder may not be written: then whoever manages the files does it.
        """
        old = Master.of(_content(self.file))
        kept = self.file.with_name(f"{self.file.name}.{old.id}")
        try:
            if not kept.exists():
                os.link(self.file, kept)
            self.next.replace(self.file)
            sync(self.file.parent)
        except OSError:
            return False
        return True


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_mode & STRANGERS:
            raise SettingsError(
                f"The master key {path} can be read by everybody: `chmod 600 {path}`."
            )
        found = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"The master key {path} cannot be read: {error.strerror}.") from None
    if len(found) < SIZE:
        raise SettingsError(f"The master key {path} has fewer than {SIZE} bytes: restore it.")
    return found
