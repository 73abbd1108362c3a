"""A lock on one folder of the shelf, between processes; the kernel lets go when its holder dies."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Give = Callable[[Path], None]


class Busy(Exception):
    """Somebody else holds it."""


def kept(path: Path) -> None:
    """Leave a path to whoever made it."""


@contextmanager
def held(folder: Path, *, wait: bool, give: Give = kept) -> Iterator[None]:
    """Hold what is at `folder`, which need not be there; Busy unless one waits for it."""
    locks = folder.parent.parent / ".locks"
    if not locks.is_dir():
        locks.mkdir(parents=True, exist_ok=True)
        give(locks)
    path = locks / f"{folder.parent.name}--{folder.name}"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        give(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Busy from None
        yield
