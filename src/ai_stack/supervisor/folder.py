"""The data folder: its lock, its layout's version, its subfolders, and the folder of sockets."""

import errno
import fcntl
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ai_stack.errors import StackError
from ai_stack.supervisor.account import Account

LAYOUT = 1
OWNED = ("postgres", "redis", "redis-kept", "qdrant", "models", "llama-cpp-models", "secrets")
SHARED = ("imports", "exports", "backups")
NEW_BYTES, OLD_BYTES = 400 << 20, 32 << 20
SOCKET_PATH_MAX = 107 - len("/.s.PGSQL.5432")


class AlreadyRunning(StackError):
    """A supervisor runs on this data folder already."""


@contextmanager
def lock(data: Path) -> Iterator[None]:
    """Hold the data folder for this process; AlreadyRunning when another does.

    The kernel lets go of it however the holder dies, so it is never stale.
    """
    with os.fdopen(os.open(data / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o644), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning from None
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def holder(data: Path) -> int | None:
    """The process that holds the data folder: its pid, 0 when unknown, None when nobody does."""
    path = data / "supervisor.lock"
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdigit() else 0
    return None


def make(data: Path) -> None:
    """Create the folder and see that it can be written."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe = data / f".writable-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise StackError(_unwritable(data, error)) from None


def _unwritable(data: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk of {data} is full. Free some space and start again; no data is lost."
    if error.errno == errno.EROFS:
        return f"The data folder {data} is on a read-only file system; mount it writable."
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"This user may not write to the data folder {data}. Start the stack as its owner, "
            "or set AI_STACK_DATA_DIR to a folder of your own."
        )
    return f"The data folder {data} cannot be used: {error.strerror}."


def check_layout(data: Path) -> None:
    """Refuse a folder that another version laid out; mark a new one."""
    file = data / "layout.json"
    if not file.exists():
        _check_unmarked(data)
        _write(file, json.dumps({"version": LAYOUT}) + "\n")
        return
    version = _version(file)
    if version > LAYOUT:
        raise StackError(
            f"The data folder {data} has layout {version}, from a newer AI Stack; this one knows "
            f"{LAYOUT}. Install the newer one, or set AI_STACK_DATA_DIR. Nothing was touched."
        )
    if version < LAYOUT:
        raise StackError(
            f"The data folder {data} has layout {version}, which no AI Stack wrote; layouts begin "
            f"with {LAYOUT}. Restore {file} from a backup. Nothing was touched."
        )


def _check_unmarked(data: Path) -> None:
    found = next((data / p for p in ("postgres", "redis") if _filled(data / p)), None)
    if found is not None:
        raise StackError(
            f"{found} holds data that was not laid out by this AI Stack (there is no "
            f"{data / 'layout.json'}), perhaps by its containers. Move it away or set "
            "AI_STACK_DATA_DIR. Nothing was touched."
        )


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _version(file: Path) -> int:
    try:
        return int(json.loads(file.read_text())["version"])
    except (ValueError, KeyError, TypeError):
        raise StackError(
            f'{file} is damaged: it should say {{"version": {LAYOUT}}}. Nothing was touched.'
        ) from None


def check_space(data: Path) -> None:
    """See that there is room to create a database, or to go on with one."""
    new = not (data / "postgres" / "data").exists()
    needed, free = NEW_BYTES if new else OLD_BYTES, shutil.disk_usage(data).free
    if free < needed:
        raise StackError(
            f"The disk of {data} is full: {free >> 20} MiB are free, and "
            f"{'a new data folder' if new else 'the stack'} needs {needed >> 20} MiB. "
            "Free some space and start again; no data is lost."
        )


def check_port(host: str, port: int) -> None:
    """See that the gateway's port is free, before anything is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise StackError(_unbindable(host, port, error)) from None


def _unbindable(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another program. Stop it, or choose another "
            f"port: AI_STACK_PORT={port + 1}. Nothing was started."
        )
    return (
        f"The gateway cannot listen on {host} port {port}: {error.strerror}. "
        "Change AI_STACK_HOST or AI_STACK_PORT. Nothing was started."
    )


def fill(data: Path, account: Account) -> None:
    """Create the subfolders; the parts own theirs, the supervisor owns the logs."""
    _check_owner(data, account)
    (data / "logs").mkdir(mode=0o700, exist_ok=True)
    for name in (*OWNED, *SHARED):
        folder = data / name
        folder.mkdir(mode=0o700, exist_ok=True)
        deep = name in OWNED and folder.stat().st_uid != account.uid
        account.give(folder, deep=deep)


def _check_owner(data: Path, account: Account) -> None:
    folder = data / "postgres"
    owner = folder.stat().st_uid if folder.exists() else account.uid
    if owner not in (account.uid, os.getuid()):
        raise StackError(
            f"{folder} belongs to the user id {owner}, and the parts would run as {account.name}. "
            "Start the stack as it was started before (as root it runs as AI_STACK_RUN_AS). "
            "Nothing was touched."
        )


def make_runtime(folder: Path, account: Account) -> None:
    """The folder of the sockets, private to the parts' user."""
    if len(str(folder)) > SOCKET_PATH_MAX:
        raise StackError(
            f"The path {folder} is too long for a unix socket ({SOCKET_PATH_MAX} characters at "
            "most): set AI_STACK_RUNTIME_DIR to a shorter one."
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"{folder} cannot be made: {error.strerror}.") from None
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.getuid(), account.uid):
        raise StackError(
            f"{folder} belongs to somebody else: remove it or set AI_STACK_RUNTIME_DIR."
        )
    folder.chmod(0o700)
    account.give(folder)


def _write(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    with new.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
