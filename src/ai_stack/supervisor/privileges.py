"""What a child gives up between fork and exec; Linux only, by prctl and capset.

A child of root becomes an ordinary user. Where folders on the way to the data or to Python
are closed to that user (a home of mode 0700), it keeps the one capability to pass and read
them, CAP_DAC_READ_SEARCH, and nothing else: no folder's mode is ever changed.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_SECUREBITS = 1, 24, 28
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 38, 47, 2
NO_SETUID_FIXUP = 1 << 2  # also makes access(2) honour the capability, which PostgreSQL asks
CAP_DAC_READ_SEARCH, CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 2, 6, 7, 8
CAPABILITY_VERSION_3 = 0x20080522
OPEN_FILES = 65_536

_Header = ctypes.c_uint32 * 2
_Sets = ctypes.c_uint32 * 6


def held_capabilities() -> int:
    """The bit mask of this process's permitted capabilities."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0


def can_keep_reading() -> bool:
    """Whether a child of this process can be left with CAP_DAC_READ_SEARCH."""
    held = held_capabilities()
    wanted = (CAP_DAC_READ_SEARCH, CAP_SETGID, CAP_SETUID, CAP_SETPCAP)
    return all(held >> capability & 1 for capability in wanted)


def on_exec(
    death_signal: signal.Signals, user: tuple[int, int, list[int]] | None, keep_reading: bool
) -> Callable[[], None]:
    """What to call in the child before exec; `user` is uid, gid and groups, None to stay.

    The signal is set last, since a change of user clears it; a supervisor that died
    meanwhile is noticed by the changed parent. libc is bound before the fork, and the
    supervisor runs no threads, so the forked child only makes system calls.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        _raise_file_limit()
        if user is not None:
            if keep_reading:
                _call(libc, PR_SET_SECUREBITS, NO_SETUID_FIXUP)
            _become(libc, *user)
            if keep_reading:
                _keep_only(libc, CAP_DAC_READ_SEARCH)
        _call(libc, PR_SET_NO_NEW_PRIVS, 1)
        _call(libc, PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _become(libc: ctypes.CDLL, uid: int, gid: int, groups: list[int]) -> None:
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.umask(0o077)


def _keep_only(libc: ctypes.CDLL, capability: int) -> None:
    for other in range(64):
        if other != capability:
            libc.prctl(PR_CAPBSET_DROP, other, 0, 0, 0)  # refused above the kernel's last one
    bit = 1 << capability
    sets = _Sets(bit, bit, bit, 0, 0, 0)
    if libc.capset(_Header(CAPABILITY_VERSION_3, 0), sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _call(libc, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def _call(libc: ctypes.CDLL, option: int, *arguments: int) -> None:
    padded = [*arguments, 0, 0, 0, 0][:4]
    if libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
