"""Puts restored data in the place of the old, so that a kill at any moment leaves the one or the
other: what is done next stands in a file, and each step may be done again.

building: the old is in force, and what was built is to go. committed: the new is to take its
place. swapped: it has, and the old lies beside. served: the new has answered, and the old is to
go. reverting: the new did not answer, and the old is to come back.

Of a database on a server it knows only the steps, which whoever knows the server takes.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from ai_stack.disk import sync
from ai_stack.errors import StackError

JOURNAL, LOCK = "restore.json", "restore.lock"
STAGING, REPLACED = "restoring", "replaced"
State = Literal["building", "committed", "swapped", "served", "reverting"]


@dataclass(frozen=True, slots=True)
class Item:
    """A file or folder: what was built, where it belongs, and where what was there goes."""

    built: str
    place: str
    old: str


@dataclass(frozen=True, slots=True)
class Swap:
    """A restore of a bundle, and how far it is.

    `database` is the one on a server that is to be replaced or, `in_place`, was empty and is
    filled; `keep`: what is replaced is not to be removed.
    """

    bundle: str
    state: State
    items: tuple[Item, ...] = ()
    database: str = ""
    in_place: bool = False
    keep: bool = False


class Server(Protocol):
    """A database on a server, and the restored one beside it; each step may be taken again."""

    @property
    def place(self) -> str:
        """Which database it is, without what is secret."""

    async def forward(self) -> None:
        """Give the restored one the name of the old, which gets another."""

    async def backward(self) -> None:
        """Give the old one its name back."""

    async def clear(self, *, replaced: bool) -> None:
        """Remove the one that was replaced, or else the one that was to replace it."""


def inside(data: Path, name: str) -> Item:
    """An item of the data folder."""
    return Item(str(data / STAGING / name), str(data / name), str(data / REPLACED / name))


def beside(place: Path) -> Item:
    """An item elsewhere, which is built and kept beside its place."""
    built, old = (place.with_name(f".{place.name}.{word}") for word in (STAGING, REPLACED))
    return Item(str(built), str(place), str(old))


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the right to restore into a data folder; StackError when another process does."""
    with (data / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError("A restore into this data folder is going on already.") from None
        yield


def is_held(data: Path) -> bool:
    """Whether a process restores into this data folder at this moment."""
    path = data / LOCK
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read(data: Path) -> Swap | None:
    try:
        found = json.loads((data / JOURNAL).read_text())
        items = tuple(Item(**item) for item in found.pop("items"))
        return Swap(**found, items=items)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise StackError(f"{data / JOURNAL} cannot be read ({error}); nothing was done.") from None


def begin(data: Path, planned: Swap) -> Swap:
    """Write down what is to be built, before anything is."""
    _clear(planned, data)
    return to(data, planned, "building")


def to(data: Path, swap: Swap, state: State) -> Swap:
    """Write down the next state, so that a crash finds either."""
    swap, new = replace(swap, state=state), data / f"{JOURNAL}.new"
    with new.open("w") as file:
        json.dump(asdict(swap), file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(data / JOURNAL)
    sync(data)
    return swap


async def commit(data: Path, swap: Swap, server: Server | None = None) -> Swap:
    """Put what was built in its place; the caller holds the data folder, and nothing runs on it."""
    return await _forward(data, to(data, swap, "committed"), server)


async def revert(data: Path, swap: Swap, server: Server | None = None) -> None:
    """Put the old back in its place, and remove what had replaced it."""
    await _backward(data, to(data, swap, "reverting"), server)


async def settle(data: Path, server: Server | None = None, *, own: bool = False) -> list[str]:
    """Finish or undo what a restore left when it was killed; what was done, in words.

    The caller holds the data folder; `own`: it holds the right to restore as well. StackError
    where a database is concerned that is not the one of the server.
    """
    swap = read(data)
    if swap is None or (not own and is_held(data)):
        return []
    if swap.state == "building":
        await finish(data, swap, server)
        return [f"the restore of {swap.bundle} was broken off: {_as_before(swap)}"]
    if swap.state == "committed":
        await _forward(data, swap, server)
        return [f"the restore of {swap.bundle} is complete: the data are those of the backup"]
    if swap.state == "reverting":
        await _backward(data, swap, server)
        return [f"the restore of {swap.bundle} was taken back: {_as_before(swap)}"]
    if swap.state == "served":
        await finish(data, swap, server)
        word = "kept" if swap.keep else "removed"
        return [f"the data from before the restore of {swap.bundle} are {word}"]
    return [f"the data are those of {swap.bundle}; the old ones wait until they have answered"]


def _as_before(swap: Swap) -> str:
    if swap.in_place:
        return (
            f"the files are as before it, and the database {swap.database}, which was empty, may "
            "hold some of it; `ai-stack backup restore --replace` replaces that"
        )
    return "the data are as before it"


def answered(data: Path) -> None:
    """The new data have served: from now on the old are not needed."""
    swap = read(data)
    if swap is not None and swap.state == "swapped":
        to(data, swap, "served")


async def finish(data: Path, swap: Swap, server: Server | None = None) -> None:
    """Remove what is not in force, and what was written down about it; keep what is to be kept."""
    served = swap.state == "served"
    found = _server_of(swap, server)
    if found is not None and not (served and swap.keep):
        await found.clear(replaced=served)
    if served and swap.keep:
        _keep(swap, data)
    _clear(swap, data)
    (data / JOURNAL).unlink(missing_ok=True)
    sync(data)


def _server_of(swap: Swap, server: Server | None) -> Server | None:
    """The server of a database that is replaced; None where none is."""
    if not swap.database or swap.in_place:
        return None
    if server is None or server.place != swap.database:
        raise StackError(
            f"A restore of {swap.bundle} into the database {swap.database} was broken off, and "
            "the settings name another: name that one again, and start. Nothing was done."
        )
    return server


async def _forward(data: Path, swap: Swap, server: Server | None) -> Swap:
    found = _server_of(swap, server)
    if found is not None:
        await found.forward()
    for item in swap.items:
        if not _exists(item.built):
            continue
        if _exists(item.place):
            _move(item.place, item.old)
        _move(item.built, item.place)
    return to(data, swap, "swapped")


async def _backward(data: Path, swap: Swap, server: Server | None) -> None:
    found = _server_of(swap, server)
    if found is not None:
        await found.backward()
    for item in swap.items:
        if _exists(item.place) and not _exists(item.built):
            _move(item.place, item.built)
        if _exists(item.old):
            _move(item.old, item.place)
    await finish(data, to(data, swap, "building"), server)


def _keep(swap: Swap, data: Path) -> None:
    """Give what was replaced names that no later restore removes."""
    now = int(time.time())
    for item in swap.items:
        place = Path(item.place)
        if Path(item.old).parent != data / REPLACED and _holds(Path(item.old)):
            _move(item.old, str(place.with_name(f"{place.name}.{REPLACED}-{now}")))
    if _holds(data / REPLACED):
        _move(str(data / REPLACED), str(data / f"{REPLACED}-{now}"))


def _holds(path: Path) -> bool:
    """Whether there is something: an empty folder is not worth keeping."""
    if path.is_dir() and not path.is_symlink():
        return any(path.iterdir())
    return _exists(str(path))


def _clear(swap: Swap, data: Path) -> None:
    for item in swap.items:
        _remove(Path(item.built))
        _remove(Path(item.old))
    _remove(data / STAGING)
    _remove(data / REPLACED)


def _exists(path: str) -> bool:
    return os.path.lexists(path)


def _move(source: str, target: str) -> None:
    Path(target).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    Path(source).rename(target)
    sync(Path(target).parent)
    sync(Path(source).parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
