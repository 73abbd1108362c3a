"""The secrets that are kept outside the database, in a folder that only the stack's user reads."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ai_stack.disk import sync
from ai_stack.errors import SettingsError

SIZE = 32


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """`pepper` hides the keys in the database, `operator` proves who reads this folder."""

    pepper: bytes
    operator: bytes


def open_secrets(folder: Path) -> Secrets:
    """The secrets of a folder, made where they are missing; SettingsError when that fails."""
    return Secrets(secret(folder, "pepper"), secret(folder, "operator"))


def secret(folder: Path, name: str, make: Callable[[], bytes] | None = None) -> bytes:
    """One secret by its file's name; the first of several processes makes it for all."""
    path = folder / name
    try:
        if not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync(folder.parent)
            _write_new(path, (make or (lambda: secrets.token_bytes(SIZE)))())
        found = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"The secret {path} cannot be read or made: {error.strerror}. AI_STACK_SECRETS_DIR "
            "names a folder that the stack's user may write, or that holds it already."
        ) from None
    if len(found) < SIZE:
        raise SettingsError(f"The secret {path} has fewer than {SIZE} bytes: restore or remove it.")
    return found


def _write_new(path: Path, content: bytes) -> None:
    """Put a file in place whole, unless another process has."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    sync(path.parent)
