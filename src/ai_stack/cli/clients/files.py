"""Settings files of other programs: read whole, replaced at once, kept as they were beside."""

import os
from dataclasses import dataclass
from pathlib import Path

from ai_stack.errors import StackError

BACKUP = ".before-ai-stack"
LARGEST_BYTES = 4 << 20


class Malformed(StackError):
    """The text is not of its format; the message is a clause that says where."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one file; `backup` is its text from before, kept once."""

    path: Path
    changed: bool
    backup: Path | None = None


def read(path: Path) -> str:
    """A file's text with its own line ends; empty when there is none."""
    try:
        if path.exists() and path.stat().st_size > LARGEST_BYTES:
            raise Malformed(f"{path} is too large for a file of settings.")
        return path.read_bytes().decode() if path.exists() else ""
    except OSError as error:
        raise StackError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise Malformed(f"{path} is not UTF-8 text. Nothing was changed.") from None


def write(path: Path, before: str, after: str, *, keep: bool, secret: bool = False) -> Written:
    """Put `after` in the place of `before`; a link stays one, and what it leads to is replaced.

    With `keep` what was there stays beside it, unless something does already. A `secret` text is
    for the user's own eyes, whoever could read the file before.
    """
    if before == after and path.exists():
        return Written(path, changed=False)
    backup = path.with_name(path.name + BACKUP)
    keep = keep and path.exists() and not backup.exists()
    try:
        _write(path.resolve(), before, after, backup if keep else None, 0o700 if secret else 0o777)
    except OSError as error:
        raise StackError(
            f"{path} cannot be written: {error.strerror}. If another program manages it, "
            "`--print` shows what to put there."
        ) from None
    return Written(path, changed=True, backup=backup if backup.exists() else None)


def _write(path: Path, before: str, after: str, backup: Path | None, rights: int) -> None:
    mode = path.stat().st_mode & rights if path.exists() else 0o600
    path.parent.mkdir(parents=True, exist_ok=True)
    if backup is not None:
        replace(backup, before, mode)
    replace(path, after, mode)


def replace(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file so that a reader, or a crash, finds either the old text or the new."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
