"""Confines code that is not trusted, or that opens what is not: a process apart, and its bounds.

Two walls, one behind the other. Bubblewrap, where it is present, gives the process a machine of
its own: other processes, the network and all files but a few are not there. Inside, and alone
where there is no bubblewrap, the kernel's own means hold: Landlock for files, a filter of system
calls, and limits. Neither needs a right that an ordinary user lacks.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ai_stack.sandbox import bubblewrap, landlock

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
CONFIGURED = (
    *("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/localtime"),
    *("/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/mime.types", "/etc/chromium"),
)
NETWORKED = (
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/run/systemd/resolve",
)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a process may touch; all else is closed to it.

    `memory_bytes` is what it may have above what an empty one has, `mapped_bytes` the addresses
    that it may reserve where those are more, `file_bytes` the size of a
    file that it writes. Without `programs` it starts no other program and no other process. One
    that is `walled` has processes, a network and local sockets of its own, or none: what it would
    reach by them is not there.
    """

    reads: Sequence[Path] = ()
    writes: Sequence[Path] = ()
    network: bool = False
    programs: bool = False
    memory_bytes: int = 1 << 30
    mapped_bytes: int = 0
    cpu_s: float = 120.0
    file_bytes: int = 256 << 20
    open_files: int = 256
    environment: Mapping[str, str] = field(default_factory=dict)
    walled: bool = False

    def readable(self) -> list[Path]:
        """Everything that is to be read, the system's own parts among it, as far as it is there."""
        system = [*SYSTEM, *CONFIGURED, *(NETWORKED if self.network else ())]
        found = [*map(Path, system), *interpreter(), *self.reads]
        return [path for path in dict.fromkeys(found) if path.exists()]


class Sandbox(Protocol):
    """A wall around a process; `name` is what people are told of it."""

    name: str
    walls: bool

    def command(self, arguments: Sequence[str], confinement: Confinement) -> list[str]:
        """The command that runs these arguments behind the wall."""
        ...


class Kernel:
    """No wall of its own: what runs confines itself by `kernel.enter` as its first act."""

    walls = False

    def __init__(self) -> None:
        self.name = "landlock" if landlock.version() else "limits"

    def command(self, arguments: Sequence[str], confinement: Confinement) -> list[str]:
        return [*arguments]


class Bubblewrap:
    """Bubblewrap, which the machine has; the kernel's means hold inside as well."""

    name = "bubblewrap"
    walls = True

    def __init__(self, program: str) -> None:
        self.program = program

    def command(self, arguments: Sequence[str], confinement: Confinement) -> list[str]:
        return bubblewrap.command(
            self.program,
            arguments,
            reads=confinement.readable(),
            writes=confinement.writes,
            network=confinement.network,
        )


def find_sandbox() -> Sandbox:
    """The strongest wall that works here and now; trying takes some ten milliseconds."""
    program = bubblewrap.find()
    if program is not None:
        wall = Bubblewrap(program)
        trial = wall.command([sys.executable, "-I", "-c", ""], Confinement())
        if bubblewrap.works(trial):
            return wall
    return Kernel()


def interpreter() -> list[Path]:
    """Where this Python, its packages and this package are, by all the names that lead there."""
    places = [sys.prefix, sys.base_prefix, *filter(None, sys.path)]
    named = [path for path in map(Path, places) if path.is_absolute()]
    links = [Path(sys.executable), *_targets(Path(sys.executable))]
    found = [*named, *(link.parent.parent for link in links)]
    every = [*found, *(path.resolve() for path in found)]
    return [path for path in dict.fromkeys(every) if path.exists() and path != Path("/")]


def _targets(link: Path) -> list[Path]:
    """The links that a link goes through."""
    found: list[Path] = []
    while link.is_symlink() and len(found) < 10:
        link = link.parent / link.readlink()
        found.append(link)
    return found
