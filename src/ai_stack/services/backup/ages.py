"""Encryption by age: for whom a bundle is, by whom it is opened, and the streams between."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import pyrage

from ai_stack.errors import SettingsError, StackError

SSH = "ssh-"


class Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


def read_recipients(text: str) -> list[Any]:
    """The recipients of a setting; SettingsError for one that is none."""
    return [_recipient(word.strip()) for word in text.replace("\n", ",").split(",") if word.strip()]


def _recipient(text: str) -> Any:
    kind = pyrage.ssh if text.startswith(SSH) else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise SettingsError(
            f"AI_STACK_BACKUP_RECIPIENTS names {text[:24]!r}…, which is no age recipient: give the "
            "public key, age1… or ssh-ed25519 …, never the identity."
        ) from None


def read_identities(file: Path | None) -> list[Any]:
    """The identities of a file, none without one; SettingsError when it holds none."""
    if file is None:
        return []
    try:
        text = file.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The identity file {file} cannot be read: {error}.") from None
    try:
        if "PRIVATE KEY-----" in text:
            return [pyrage.ssh.Identity.from_buffer(text.encode())]
        lines = [line for line in text.split() if line.startswith("AGE-SECRET-KEY-")]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise SettingsError(f"{file} holds no identity of age (AGE-SECRET-KEY-1…) and none of SSH.")
    return found


@contextmanager
def encrypted(sink: Sink, recipients: Sequence[Any]) -> Iterator[BinaryIO]:
    """A file to write to; what is written reaches the sink encrypted, as it comes."""
    read, write = os.pipe()
    stream = _Thread(lambda source: pyrage.encrypt_io(source, sink, list(recipients)), read, "rb")
    try:
        with os.fdopen(write, "wb", buffering=1 << 16) as plain:
            yield plain
    except BrokenPipeError:
        stream.join()
        raise
    stream.join()


@contextmanager
def decrypted(source: BinaryIO, identities: Sequence[Any]) -> Iterator[BinaryIO]:
    """A file to read from; StackError for a key that does not open it, or damage on the way."""
    read, write = os.pipe()
    stream = _Thread(lambda sink: pyrage.decrypt_io(source, sink, list(identities)), write, "wb")
    try:
        with os.fdopen(read, "rb", buffering=1 << 16) as plain:
            yield plain
    except Exception:
        stream.join()  # what it failed by is why there was nothing more to read
        raise
    stream.join()


class _Thread:
    """The other end of a pipe; its failure is raised where it is joined."""

    def __init__(self, work: Any, descriptor: int, mode: str) -> None:
        self._work, self._end = work, cast(BinaryIO, os.fdopen(descriptor, mode))
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with suppress(BrokenPipeError), self._end:
                self._work(self._end)
        except Exception as error:  # noqa: BLE001 (raised again by `join`, in the other thread)
            self._error = error

    def join(self) -> None:
        self._thread.join()
        if isinstance(self._error, pyrage.DecryptError) or _is_damage(self._error):
            raise StackError(_unopened(str(self._error))) from self._error
        if self._error is not None:
            raise self._error


def _is_damage(error: Exception | None) -> bool:
    """Whether age found it in the middle of a stream: it has no class of its own for that."""
    return isinstance(error, OSError) and error.errno is None


def _unopened(reason: str) -> str:
    if "no matching keys" in reason.lower():
        return "The backup is encrypted for another key: this identity does not open it."
    return "The backup cannot be decrypted: it is damaged, or was changed."
