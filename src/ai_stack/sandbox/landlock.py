"""Landlock: which files a process can reach, from now on and for all that it starts.

By the system calls of https://docs.kernel.org/userspace-api/landlock.html; libc has none of them.
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15  # also truncate, ioctl
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
TCP = 0b11  # bind and connect
SCOPED = 0b11  # abstract unix sockets and signals


def version() -> int:
    """The version that this kernel has; 0 for none."""
    found = _call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ASK_VERSION))
    return max(found, 0)


def enter(reads: Sequence[Path], writes: Sequence[Path], *, network: bool) -> bool:
    """Close all files but these to this process for good; True where the kernel can.

    OSError where it can and does not. A user's process has to renounce new privileges first.
    From version 4 on TCP is closed as well unless `network`, from 6 on signals to others are.
    """
    known = version()
    if known == 0:
        return False
    handled = RIGHTS[max(v for v in RIGHTS if v <= known)]
    ruleset = _ruleset(known, handled, network)
    for paths, rights in ((reads, READ), (writes, handled & ~EXECUTE)):
        for path in paths:
            _allow(ruleset, path, rights & handled)
    try:
        if _call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    finally:
        os.close(ruleset)
    return True


def _ruleset(known: int, handled: int, network: bool) -> int:
    tcp = TCP if known >= 4 and not network else 0
    scoped = SCOPED if known >= 6 else 0
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    fields = struct.pack("QQQ", handled, tcp, scoped)[:size]
    found = _call(CREATE_RULESET, fields, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if found < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    return found


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Open a file, or a folder and all below it; what is not there needs no rule."""
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = struct.pack("=Qi", rights if path.is_dir() else rights & OF_FILES, file)
        if _call(ADD_RULE, ctypes.c_int(ruleset), PATH_BENEATH, rule, ctypes.c_uint32(0)) != 0:
            raise OSError(ctypes.get_errno(), "landlock_add_rule")
    finally:
        os.close(file)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(ctypes.c_long(number), *arguments))
