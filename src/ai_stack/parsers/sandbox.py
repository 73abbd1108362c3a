"""What a worker gives up before it reads its first file: network, programs, memory, written files.

The kernel's filter needs no rights; where it is not to be had the limits still hold.
"""

import ctypes
import os
import resource
import signal

from ai_stack.sandbox import seccomp

NICE = 10
OPEN_FILES = 64
PR_SET_PDEATHSIG = 1
CLOSED = seccomp.Filter(("kernel", "network", "programs"), alone=True)


def enter(memory_bytes: int) -> bool:
    """Restrict this process for good; True when the kernel's filter is in force."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return seccomp.enter(CLOSED)


def allow_cpu(seconds: float) -> None:
    """Die of SIGXCPU once so much more processor time is used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
