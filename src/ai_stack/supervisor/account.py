"""The user that the parts run as, and whether it can reach what they need."""

import os
import pwd
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ai_stack.errors import StackError
from ai_stack.supervisor import privileges


@dataclass(frozen=True, slots=True)
class Account:
    """`drop` is uid, gid and groups that a child changes to, None when it stays as it is."""

    uid: int
    gid: int
    name: str
    own_name: str
    drop: tuple[int, int, list[int]] | None = None
    keep_reading: bool = False

    def give(self, path: Path, *, deep: bool = False) -> None:
        """Make this the owner of a file or folder; `deep` reaches what is in it as well."""
        if self.drop is None or (not deep and path.lstat().st_uid == self.uid):
            return
        os.chown(path, self.uid, self.gid, follow_symlinks=False)
        for folder, folders, files in os.walk(path) if deep else ():
            for name in (*folders, *files):
                os.chown(Path(folder, name), self.uid, self.gid, follow_symlinks=False)


def find_account(run_as: str, needed: Iterable[Path]) -> Account:
    """The account for the parts; `needed` are the paths that it must be able to read."""
    own = _named(os.getuid())
    if os.getuid() != 0:
        return Account(own.pw_uid, own.pw_gid, own.pw_name, own.pw_name)
    entry = _entry(run_as)
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    drop = (entry.pw_uid, entry.pw_gid, groups)
    closed = next(((c, path) for path in needed if (c := closed_folder(path, *drop))), None)
    if closed is not None and not privileges.can_keep_reading():
        raise StackError(
            f"The user {run_as} cannot enter {closed[0]} on the way to {closed[1]}. Open it with "
            f"`chmod o+x {closed[0]}`, move what is in it (the data: AI_STACK_DATA_DIR), or name "
            "another user by AI_STACK_RUN_AS. Nothing was started."
        )
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, own.pw_name, drop, closed is not None)


def needed_paths(*more: Path) -> list[Path]:
    """Where the interpreter and the installed packages are, and `more`."""
    return [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent, *more]


def closed_folder(path: Path, uid: int, gid: int, groups: list[int]) -> Path | None:
    """The first folder on the way to `path`, itself included, that the user cannot enter."""
    for given in (path.absolute(), path.resolve()):
        for folder in [*reversed(given.parents), given]:
            if folder.is_dir() and not _may_enter(folder, uid, {gid, *groups}):
                return folder
    return None


def _may_enter(folder: Path, uid: int, groups: set[int]) -> bool:
    status = folder.stat()
    if status.st_uid == uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & (0o010 if status.st_gid in groups else 0o001))


def _entry(name: str) -> pwd.struct_passwd:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise StackError(
            f"AI_STACK_RUN_AS names the user {name}, whom this machine does not know. Create "
            "the user or name another; PostgreSQL refuses to run as root."
        ) from None
    if entry.pw_uid == 0:
        raise StackError("AI_STACK_RUN_AS cannot be root: PostgreSQL refuses to run as root.")
    return entry


def _named(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise StackError(
            f"This machine has no name for the user id {uid} that the stack runs under, and "
            "PostgreSQL needs one: add a line for it to /etc/passwd."
        ) from None
