"""The kernel's filter of system calls: what a process gives up for good, by a classic BPF program.

It needs no rights. Where the machine's calls are not known here it is left out, and the other
walls hold alone.
"""

import ctypes
import platform
import struct
from dataclasses import dataclass
from typing import Literal

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_FILTER = 22, 38, 2
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSED, ABSENT = 0x00050000 | 13, 0x00050000 | 38  # EACCES, ENOSYS
AT_NUMBER, AT_ARCHITECTURE, AT_FIRST = 0, 4, 16
CLONE_THREAD, AF_UNIX = 0x00010000, 1

Group = Literal["network", "programs", "kernel"]
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS: dict[str, dict[Group, tuple[int, ...]]] = {
    "x86_64": {
        "network": (41, 42),  # socket, connect
        "programs": (57, 58, 59, 322),  # fork, vfork, execve, execveat
        # ptrace, syslog, pivot_root, chroot, mount, umount2, swapon, swapoff, reboot, init_module,
        # delete_module, add_key, request_key, keyctl, unshare, perf_event_open, setns, kcmp,
        # process_vm_readv, process_vm_writev, finit_module, kexec_load, kexec_file_load, bpf,
        # userfaultfd, io_uring_setup, io_uring_enter, io_uring_register, pidfd_getfd, mounts anew
        "kernel": (
            *(101, 103, 155, 161, 165, 166, 167, 168, 169, 175, 176, 248, 249, 250, 272, 298),
            *(308, 312, 310, 311, 313, 246, 320, 321, 323, 425, 426, 427, 438),
            *(428, 429, 430, 431, 432, 433, 442),
        ),
    },
    "aarch64": {
        "network": (198, 203),
        "programs": (221, 281),
        "kernel": (
            *(117, 116, 41, 51, 40, 39, 224, 225, 142, 105, 106, 217, 218, 219, 97, 241),
            *(268, 272, 270, 271, 273, 104, 294, 280, 282, 425, 426, 427, 438),
            *(428, 429, 430, 431, 432, 433, 442),
        ),
    },
}
CLONE = {"x86_64": (56, 435), "aarch64": (220, 435)}  # clone, clone3
SOCKET = {"x86_64": 41, "aarch64": 198}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which groups of calls are refused. `threads_only`: nothing but threads are begun;
    `local_sockets`: of sockets the local ones are refused, which lead to other programs."""

    groups: tuple[Group, ...]
    threads_only: bool = False
    local_sockets: bool = False


def enter(chosen: Filter) -> bool:
    """Refuse these calls in this process, and in all that it begins; True when in force."""
    machine = platform.machine()
    if machine not in CALLS:
        return False
    program = _program(machine, chosen)
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return int(libc.prctl(PR_SET_SECCOMP, SECCOMP_FILTER, ctypes.byref(head), 0, 0)) == 0


def _program(machine: str, chosen: Filter) -> bytes:
    """Blocks that each settle some calls; what none settles is allowed."""
    numbers = [number for group in chosen.groups for number in CALLS[machine][group]]
    blocks = [_of_architecture(ARCHITECTURES[machine]), *map(_refusal, numbers)]
    clone, clone3 = CLONE[machine]
    if chosen.threads_only:
        blocks += [_refusal(clone3, ABSENT), _without(clone, CLONE_THREAD)]
    if chosen.local_sockets:
        blocks.append(_with(SOCKET[machine], AF_UNIX))
    return b"".join([*blocks, _step(RETURN, ALLOW)])


def _of_architecture(known: int) -> bytes:
    return _steps(
        _step(LOAD, AT_ARCHITECTURE),
        _step(JUMP_EQUAL, known, 1, 0),
        _step(RETURN, KILL),
    )


def _refusal(number: int, answer: int = REFUSED) -> bytes:
    return _steps(
        _step(LOAD, AT_NUMBER),
        _step(JUMP_EQUAL, number, 0, 1),
        _step(RETURN, answer),
    )


def _without(number: int, flag: int) -> bytes:
    """Refuses a call whose first argument lacks a flag."""
    return _steps(
        _step(LOAD, AT_NUMBER),
        _step(JUMP_EQUAL, number, 0, 3),
        _step(LOAD, AT_FIRST),
        _step(JUMP_SET, flag, 1, 0),
        _step(RETURN, REFUSED),
    )


def _with(number: int, value: int) -> bytes:
    """Refuses a call whose first argument is a value."""
    return _steps(
        _step(LOAD, AT_NUMBER),
        _step(JUMP_EQUAL, number, 0, 3),
        _step(LOAD, AT_FIRST),
        _step(JUMP_EQUAL, value, 0, 1),
        _step(RETURN, REFUSED),
    )


def _steps(*steps: bytes) -> bytes:
    return b"".join(steps)


def _step(operation: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", operation, then, otherwise, value)
