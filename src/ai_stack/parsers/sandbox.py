"""What a worker gives up before it reads its first file: network, programs, memory, written files.

The kernel's filter needs no rights; where it is not to be had the limits still hold.
"""

import ctypes
import os
import platform
import resource
import signal
import struct

NICE = 10
OPEN_FILES = 64
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_FILTER = 1, 22, 38, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | 13, 0x80000000
AT_NUMBER, AT_ARCHITECTURE = 0, 4
# socket, connect, execve, execveat, fork, vfork, ptrace, io_uring_setup; clone makes threads too
CALLS = {
    "x86_64": (0xC000003E, (41, 42, 59, 322, 57, 58, 101, 425)),
    "aarch64": (0xC00000B7, (198, 203, 221, 281, 117, 425)),
}


def enter(memory_bytes: int) -> bool:
    """Restrict this process for good; True when the kernel's filter is in force."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return _filter(libc)


def allow_cpu(seconds: float) -> None:
    """Die of SIGXCPU once so much more processor time is used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _filter(libc: ctypes.CDLL) -> bool:
    known = CALLS.get(platform.machine())
    if known is None:
        return False
    program = _program(*known)
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    )
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return int(libc.prctl(PR_SET_SECCOMP, SECCOMP_FILTER, ctypes.byref(head), 0, 0)) == 0


def _program(architecture: int, refused: tuple[int, ...]) -> bytes:
    """A classic BPF program that refuses some calls and allows the rest."""
    tests = [
        struct.pack("HBBI", JUMP_EQUAL, len(refused) - n, 0, call) for n, call in enumerate(refused)
    ]
    return b"".join(
        (
            struct.pack("HBBI", LOAD, 0, 0, AT_ARCHITECTURE),
            struct.pack("HBBI", JUMP_EQUAL, 1, 0, architecture),
            struct.pack("HBBI", RETURN, 0, 0, KILL),
            struct.pack("HBBI", LOAD, 0, 0, AT_NUMBER),
            *tests,
            struct.pack("HBBI", RETURN, 0, 0, ALLOW),
            struct.pack("HBBI", RETURN, 0, 0, REFUSE),
        )
    )
