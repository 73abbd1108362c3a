"""Row 22: code in a skill that tries to get out, behind each wall that this machine has."""

import ctypes
import os
import socket
import sys
import tempfile
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ai_stack.errors import AIStackError
from ai_stack.sandbox import Bubblewrap, Confinement, Kernel, Sandbox, bubblewrap
from ai_stack.services.skills.apart import Apart
from ai_stack.services.skills.files import left_behind
from ai_stack.skill.wire import Order
from reliability.attempts import ATTEMPTS
from reliability.verdicts import Measured, Row, Trial

TIME_S, MEMORY = 4.0, 256 << 20
SECRET = "planted-5ec2e7"
OUT = "OUT"  # what an attempt answers when it got out
SKILL = '''
from ai_stack.skill import Skill, SkillResult, action

class Escape(Skill):
    @action
    async def attempt(self, code: str, canary: dict[str, str]) -> SkillResult:
        """Run a text as code."""
        told = {"canary": canary, "context": self.context}
        exec(compile(code, "attempt", "exec"), told)
        found = told["attempt"]()
        return SkillResult({"found": await found if hasattr(found, "__await__") else found})
'''
HEAD = "---\nname: escape\ndescription: Tries to get out.\n---\n"


@dataclass
class Canaries:
    """What must not be reached: a file, a folder, sockets that count who comes."""

    folder: Path
    visitors: Counter[str] = field(default_factory=Counter)
    ports: dict[str, str] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, str]:
        own = {"file": str(self.folder / "secret.txt"), "folder": str(self.folder)}
        return {**own, **self.ports, "secret": SECRET, "parent": str(os.getpid())}

    def touched(self, before: set[str]) -> list[str]:
        """What changed in the folder, and who came to the sockets."""
        now = {path.name for path in self.folder.iterdir()}
        changed = [f"made {name}" for name in now - before]
        if (self.folder / "secret.txt").read_text() != SECRET:
            changed.append("wrote secret.txt")
        return changed + [f"reached {name}" for name in self.visitors]


@contextmanager
def canaries() -> Iterator[Canaries]:
    with (
        tempfile.TemporaryDirectory(prefix="canary-", dir="/var/tmp") as name,
        tempfile.NamedTemporaryFile("w", prefix="canary-", dir="/dev/shm") as shared,
        _segment() as key,
    ):
        shared.write(SECRET)
        shared.flush()
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "secret.txt").write_text(SECRET)
        found = Canaries(folder, ports={"shared": shared.name, "key": str(key)})
        sockets = [*_listening(found)]
        try:
            yield found
        finally:
            for sock in sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # wakes who waits at it
                sock.close()


@contextmanager
def _segment() -> Iterator[int]:
    """Memory that processes share by a key, as PostgreSQL has it."""
    libc, key = ctypes.CDLL(None, use_errno=True), os.getpid()
    number = libc.shmget(key, 4096, 0o1600)
    try:
        yield key
    finally:
        libc.shmctl(number, 0, None)


def _listening(found: Canaries) -> Iterator[socket.socket]:
    tcp = socket.create_server(("127.0.0.1", 0))
    found.ports["tcp"] = str(tcp.getsockname()[1])
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    found.ports["udp"] = str(udp.getsockname()[1])
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(str(found.folder / "datagrams.sock"))
    found.ports["datagrams"] = str(found.folder / "datagrams.sock")
    _count(found, "datagrams", datagrams)
    named = {"unix": str(found.folder / "canary.sock"), "abstract": f"\0{found.folder.name}"}
    for name, address in named.items():
        local = socket.socket(socket.AF_UNIX)
        local.bind(address)
        local.listen()
        found.ports[name] = address
        _count(found, name, local)
        yield local
    (found.folder / "canary.sock").chmod(0o777)
    _count(found, "tcp", tcp)
    _count(found, "udp", udp)
    yield from (tcp, udp, datagrams)


def _count(found: Canaries, name: str, sock: socket.socket) -> None:
    def wait() -> None:
        try:
            while True:
                if name in ("udp", "datagrams"):
                    sock.recvfrom(1)
                else:
                    sock.accept()[0].close()
                found.visitors[name] += 1
        except OSError:
            return

    threading.Thread(target=wait, daemon=True).start()


class Faulty:
    """A build whose wall is open: nothing confines the skill's process."""

    name, walls = "none", False

    def command(self, arguments: Sequence[str], confinement: Confinement) -> list[str]:
        plants = str(Path(__file__).with_name("plants.py"))
        return [sys.executable, plants, "open-wall", "skill", arguments[-1]]


def walls(plant: str | None) -> list[Sandbox]:
    if plant is not None:
        return [Faulty()]
    program = bubblewrap.find()
    return [Kernel(), *([Bubblewrap(program)] if program else [])]


async def measure_escapes(trial: Trial) -> Measured:
    """Every attempt behind every wall: what it answered, and what it left outside."""
    faults, tried, os.environ["ROW_22_SECRET"] = [], 0, SECRET
    kinds = walls(trial.plant)
    try:
        for wall in kinds:
            for name, code in ATTEMPTS.items():
                tried += 1
                got_out = await _attempt(wall, code)
                trial.log.write("attempt", wall=wall.name, name=name, got_out=got_out)
                faults += [f"{wall.name}: {name}: {what}" for what in got_out]
    finally:
        del os.environ["ROW_22_SECRET"]
    names = "+".join(wall.name for wall in kinds)
    return Measured({"walls": names, "attempts": tried, "got out": len(faults)}, tuple(faults))


async def _attempt(wall: Sandbox, code: str) -> list[str]:
    """What an attempt got: empty when it was held."""
    with canaries() as found, tempfile.TemporaryDirectory(prefix="escape-") as top:
        place = Path(top)
        skill, out, scratch = place / "escape", place / "out", place / "scratch"
        for folder in (skill, out, scratch):
            folder.mkdir()
        (skill / "SKILL.md").write_text(HEAD)
        (skill / "skill.py").write_text(SKILL)
        before = {path.name for path in found.folder.iterdir()}
        bounds = Confinement(
            reads=[skill], writes=[out, scratch], memory_bytes=MEMORY, cpu_s=TIME_S
        )
        arguments = {"code": textwrap.dedent(code), "canary": found.told}
        order = Order(str(skill), str(out), str(scratch), bounds, arguments)
        answer = await _answer(Apart(wall), order)
        got_out = [f"answered {answer}"] if answer.startswith(OUT) else []
        got_out += found.touched(before)
        if (skill / "skill.py").read_text() != SKILL:
            got_out.append("wrote its own code")
        kept = [path.read_bytes() for path in left_behind(out)]
        return got_out + ["carried a secret out"] * any(SECRET.encode() in data for data in kept)


async def _answer(apart: Apart, order: Order) -> str:
    try:
        return str((await apart.run(order, TIME_S))["output"]["found"])
    except AIStackError as error:
        return error.message


ROWS = (
    Row(
        22,
        f"{len(ATTEMPTS)} ways out of a skill's sandbox",
        "0 get out, behind each wall of this machine",
        measure_escapes,
        ("open-wall",),
        calm=True,
    ),
)
