"""What a confined process gives up before it touches anything that is not trusted."""

import ctypes
import resource
import signal
from pathlib import Path

from ai_stack.sandbox import Confinement, landlock, seccomp

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
CAPABILITY_VERSION_3, ALL = 0x20080522, 64
READ_SEARCH = 2  # CAP_DAC_READ_SEARCH: without it Python in a closed home is out of reach
PROCESSES = 256
DEVICES = [Path(f"/dev/{name}") for name in ("null", "zero", "full", "random", "urandom")]
SHARED = Path("/dev/shm")  # noqa: S108 (without a wall of its own it holds others' memory)
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
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(confinement)
    _keep_reading(libc)
    machine = [Path("/proc")] if confinement.walled else MACHINE
    seen = [*confinement.readable(), *machine]
    own = [*DEVICES, *([SHARED] if confinement.walled else [])]
    files = landlock.enter(seen, [*confinement.writes, *own], network=confinement.network)
    return seccomp.enter(_filter(confinement)) and files


def _filter(confinement: Confinement) -> seccomp.Filter:
    """Programs behind a wall have sockets among themselves: browsers do not start without.

    Without a wall they stay in one group, to be ended with it, and leave alone what Landlock does
    not know: memory that is shared, and modes and owners of files that they may not even read.
    """
    apart = confinement.walled and confinement.programs
    groups: list[seccomp.Group] = ["kernel"]
    if not confinement.network and not apart:
        groups.append("network")
    if not confinement.programs:
        groups.append("programs")
    if not confinement.walled:
        groups += ["shared", "groups", "others"]
    return seccomp.Filter(tuple(groups), alone=not confinement.programs, local_sockets=not apart)


def _keep_reading(libc: ctypes.CDLL) -> None:
    """Give up every capability but the one to read, which Landlock bounds."""
    for capability in range(ALL):
        if capability != READ_SEARCH:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header, held = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, held)
    kept = [part & (1 << READ_SEARCH) if n < 3 else 0 for n, part in enumerate(held)]
    libc.capset(header, (ctypes.c_uint32 * 6)(*kept))


def _limit(confinement: Confinement) -> None:
    """Limits by rlimit; a program that is started may map much that it never uses."""
    cpu = int(confinement.cpu_s) + 1
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, confinement.file_bytes),
        (resource.RLIMIT_NOFILE, confinement.open_files),
    ]
    if confinement.walled:  # elsewhere all that its user runs would count
        limits.append((resource.RLIMIT_NPROC, PROCESSES))
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
