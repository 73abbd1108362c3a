"""What a confined process gives up before it touches anything that is not trusted."""

import ctypes
import resource
import signal
from pathlib import Path

from ai_stack.sandbox import Confinement, landlock, seccomp

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PROCESSES = 256
MACHINE = [
    *(Path(f"/proc/{name}") for name in ("self", "meminfo", "cpuinfo", "stat")),
    *(Path("/sys/fs/cgroup"), Path("/sys/devices/system/cpu")),  # how much there is to use
]


def enter(confinement: Confinement) -> bool:
    """Confine this process for good; True when files and system calls are closed by the kernel.

    It dies with its parent, and other processes of its user cannot look into it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _limit(confinement)
    machine = [Path("/proc")] if confinement.walled else MACHINE
    seen = [*confinement.readable(), *machine]
    files = landlock.enter(seen, confinement.writes, network=confinement.network)
    return seccomp.enter(_filter(confinement)) and files


def _filter(confinement: Confinement) -> seccomp.Filter:
    """Programs behind a wall have sockets among themselves: browsers do not start without."""
    apart = confinement.walled and confinement.programs
    groups: list[seccomp.Group] = ["kernel"]
    if not confinement.network and not apart:
        groups.append("network")
    if not confinement.programs:
        groups.append("programs")
    return seccomp.Filter(
        tuple(groups),
        threads_only=not confinement.programs,
        local_sockets=confinement.network and not apart,
    )


def _limit(confinement: Confinement) -> None:
    """Limits by rlimit; a program that is started may map much that it never uses."""
    cpu = int(confinement.cpu_s) + 1
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, confinement.file_bytes),
        (resource.RLIMIT_NOFILE, confinement.open_files),
        (resource.RLIMIT_NPROC, PROCESSES),
    ]
    if not confinement.programs:
        room = max(confinement.memory_bytes, confinement.mapped_bytes)
        limits.append((resource.RLIMIT_AS, _mapped_bytes() + room))
    for kind, bound in limits:
        hard = resource.getrlimit(kind)[1]
        least = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (least, least))


def _mapped_bytes() -> int:
    """What this process has mapped by now, which is its own and not the skill's."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
