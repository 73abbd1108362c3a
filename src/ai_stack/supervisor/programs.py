"""Programs that a command runs to their end: PostgreSQL's own for archives, and our own verbs."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from ai_stack.errors import StackError
from ai_stack.supervisor import postgres

READ_BYTES, TAIL_BYTES = 1 << 20, 2000
HEAD_BYTES = 8 << 20  # the beginning of an archive, which has its table of contents
LOCK_WAIT_MS = 60_000
NATIVE_SINCE, SCRIPT_HEAD = 18, 4096
# What a script begins with, and what an older server takes in its place: it does not know the
# one setting, and finds in `public` what newer servers have among their own functions.
FOR_OLDER = (
    (b"SET transaction_timeout = 0;\n", b""),
    (b"set_config('search_path', '', false)", b"set_config('search_path', 'public', false)"),
)
COMPRESSION = "gzip:1"
LOCAL = "host=/"
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC", "PGOPTIONS": "-c jit=off"}


def folder_for(major: int, url: str) -> Path:
    """The folder of a pg_dump and pg_restore that can serve a server of this version.

    The wheel's speak no TLS, so for a server that is reached by network those on PATH come first.
    """
    installed = _installed()
    if installed is not None and installed[0] >= major and LOCAL not in url:
        return installed[1]
    known = [each for each in sorted(postgres.FOLDERS) if each >= major]
    if known:
        return postgres.binaries(known[0])
    raise StackError(f"PostgreSQL {major} needs the programs of its version: put pg_dump on PATH.")


def newest_folder(url: str) -> Path:
    """The folder of the newest programs there are, which read every archive."""
    return folder_for(max(postgres.FOLDERS), url)


def _installed() -> tuple[int, Path] | None:
    found = shutil.which("pg_dump")
    if found is None or shutil.which("pg_restore", path=str(Path(found).parent)) is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"(\d+)", said.stdout)
    return None if version is None else (int(version[1]), Path(found).parent)


async def dump(programs: Path, url: str, snapshot: str) -> AsyncIterator[bytes]:
    """What pg_dump writes of a snapshot, in its custom format; StackError when it fails."""
    options = ("-Fc", "-Z", COMPRESSION, f"--snapshot={snapshot}", "--no-owner")
    wait = f"--lock-wait-timeout={LOCK_WAIT_MS}"
    async with _running(programs / "pg_dump", *options, wait, url=url) as process:
        while data := await process.stdout.read(READ_BYTES):
            yield data


async def listing(programs: Path, head: bytes) -> list[str]:
    """The table of contents of an archive, from its first bytes; StackError when it has none."""
    async with _running(programs / "pg_restore", "--list", fed=True) as process:
        _, said = await asyncio.gather(_feed(process.stdin, once(head)), process.stdout.read())
    return str(said.decode(errors="replace")).splitlines()


async def load(url: str, major: int, listed: Sequence[str], archive: AsyncIterator[bytes]) -> None:
    """Restore what is listed of an archive into a server of this version, all of it or nothing.

    StackError when it fails.
    """
    program = folder_for(max(major, *postgres.FOLDERS), url) / "pg_restore"
    with tempfile.NamedTemporaryFile("w", suffix=".list") as chosen:
        chosen.write("\n".join(listed) + "\n")
        chosen.flush()
        options = ("--no-owner", "--use-list", chosen.name)
        if major < NATIVE_SINCE:
            await _load_as_script(program, url, options, archive)
            return
        whole = ("--single-transaction", "--exit-on-error")
        async with _running(program, *options, *whole, url=url, fed=True) as process:
            await _feed(process.stdin, archive)


async def _load_as_script(
    program: Path, url: str, options: Sequence[str], archive: AsyncIterator[bytes]
) -> None:
    """By way of psql, for a server that is older than the archive may be."""
    whole = ("-X", "-q", "--single-transaction", "-v", "ON_ERROR_STOP=1")
    psql = program.with_name("psql")
    async with (
        _running(psql, *whole, url=url, fed=True) as sink,
        _running(program, *options, "-f", "-", fed=True) as process,
    ):
        script = _for_older(process.stdout)
        feeding = (_feed(process.stdin, archive), _feed(sink.stdin, script), sink.stdout.read())
        await asyncio.gather(*feeding)


async def _for_older(source: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """A script with another beginning."""
    head = await source.read(SCRIPT_HEAD)
    while len(head) < SCRIPT_HEAD and (more := await source.read(SCRIPT_HEAD)):
        head += more
    for found, better in FOR_OLDER:
        head = head.replace(found, better, 1)
    yield head
    while data := await source.read(READ_BYTES):
        yield data


async def once(content: bytes) -> AsyncIterator[bytes]:
    """Bytes as an archive that comes in one piece."""
    yield content


async def _feed(sink: asyncio.StreamWriter, archive: AsyncIterator[bytes]) -> None:
    """Write an archive to a program; one that ends early says by itself why."""
    gone = (BrokenPipeError, ConnectionResetError)
    with suppress(*gone):
        async for piece in archive:
            sink.write(piece)
            await sink.drain()
    with suppress(*gone):
        sink.close()
        await sink.wait_closed()


@asynccontextmanager
async def _running(
    program: Path, *arguments: str, url: str = "", fed: bool = False
) -> AsyncIterator[Any]:
    """A program of PostgreSQL while it runs; StackError with its last words when it fails."""
    shown, password = _parted(url)
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        *([f"--dbname={shown}"] if url else []),
        stdin=asyncio.subprocess.PIPE if fed else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**ENVIRONMENT, **({"PGPASSWORD": password} if password else {})},
    )
    assert process.stderr is not None
    words = asyncio.create_task(process.stderr.read())
    try:
        yield process
        status = await process.wait()
        said = (await words).decode(errors="replace")[-TAIL_BYTES:].strip()
        if status:
            raise StackError(f"{program.name} failed: {said or f'it ended with {status}'}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        words.cancel()


def _parted(url: str) -> tuple[str, str]:
    """A URL as others may see it in the list of processes, and the password that was in it."""
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options = parse_qsl(parts.query, keep_blank_values=True)
    asked = urlencode([(name, value) for name, value in options if name != "password"])
    shown = f"{parts.scheme}://{user}{at}{place}{parts.path}" + (f"?{asked}" if asked else "")
    return shown, unquote(password) or dict(options).get("password", "")


async def verb(*arguments: str) -> str:
    """Run a verb of ours; what it said when it failed, nothing when it did not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "ai_stack", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    text = said.decode(errors="replace")[-TAIL_BYTES:].strip()
    return (text or "it failed") if process.returncode else ""
