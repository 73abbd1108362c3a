"""The kernel's filter of system calls: what a process gives up for good, by a classic BPF program.

It needs no rights. Where the machine's calls are not known here it is left out, and the other
walls hold alone.
"""

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from typing import Literal

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_FILTER = 22, 38, 2
LOAD, JUMP_EQUAL, JUMP_REACHED, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSED, ABSENT = 0x00050000 | 13, 0x00050000 | 38  # EACCES, ENOSYS
UNHEEDED = 0x00050000  # told to be done, and not done: much asks for it that does without
AT_NUMBER, AT_ARCHITECTURE, AT_FIRST, AT_SECOND = 0, 4, 16, 24
CLONE_THREAD, CLONE_NEWUSER, AF_UNIX = 0x00010000, 0x10000000, 1
DATAGRAMS = 0b10  # SOCK_DGRAM and SOCK_RAW have this bit, which streams have not
OTHER_TABLE = 0x40000000  # x32 has the calls of x86_64 once more, by other numbers

Group = Literal["network", "programs", "kernel", "shared", "groups", "others"]
UNHEEDED_GROUPS: tuple[Group, ...] = ("groups", "others")
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
            *(428, 429, 430, 431, 432, 433, 442, 304),  # open_by_handle_at
        ),
        # shmget, shmat, shmctl, semget, semop, semctl, msgget, msgsnd, msgrcv, msgctl, semtimedop,
        # mq_open, mq_unlink
        "shared": (29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220, 240, 241),
        "groups": (109, 112),  # setpgid, setsid
        # chmod, fchmod, chown, fchown, lchown, utime, utimes, fchownat, futimesat, fchmodat,
        # utimensat, fchmodat2, setxattr and removexattr in their forms; setpriority, ioprio_set,
        # sched_setparam, sched_setscheduler, sched_setaffinity, sched_setattr
        "others": (
            *(90, 91, 92, 93, 94, 132, 235, 260, 261, 268, 280, 452),
            *(188, 189, 190, 197, 198, 199, 463, 466, 141, 251, 142, 144, 203, 314),
        ),
    },
    "aarch64": {
        "network": (198, 203),
        "programs": (221, 281),
        "kernel": (
            *(117, 116, 41, 51, 40, 39, 224, 225, 142, 105, 106, 217, 218, 219, 97, 241),
            *(268, 272, 270, 271, 273, 104, 294, 280, 282, 425, 426, 427, 438),
            *(428, 429, 430, 431, 432, 433, 442, 265),
        ),
        "shared": (194, 196, 195, 190, 193, 191, 186, 189, 188, 187, 192, 180, 181),
        "groups": (154, 157),
        "others": (
            *(52, 53, 54, 55, 88, 452),
            *(5, 6, 7, 14, 15, 16, 463, 466, 140, 30, 118, 119, 122, 274),
        ),
    },
}
CLONE = {"x86_64": (56, 435), "aarch64": (220, 435)}  # clone, clone3
SOCKET = {"x86_64": (41, 53), "aarch64": (198, 199)}  # socket, socketpair
PRLIMIT = {"x86_64": 302, "aarch64": 261}
# kill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo; tkill, pidfd_send_signal
SIGNALS = {
    "x86_64": ((62, 234, 129, 297), (200, 424)),
    "aarch64": ((129, 131, 138, 240), (130, 424)),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which groups of calls are refused. `alone`: nothing but threads are begun, and signals
    reach this process only; `local_sockets`: of sockets the local ones are refused, which lead
    to other programs."""

    groups: tuple[Group, ...]
    alone: bool = False
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
    blocks = [_of_architecture(ARCHITECTURES[machine]), _of_table(), *_grouped(machine, chosen)]
    blocks += [*_processes(machine, chosen.alone), _unless(PRLIMIT[machine], 0)]
    if chosen.local_sockets:
        socket, pair = SOCKET[machine]
        blocks += [_with(socket, AF_UNIX), _flagged(pair, DATAGRAMS, AT_SECOND)]
    return b"".join([*blocks, _step(RETURN, ALLOW)])


def _grouped(machine: str, chosen: Filter) -> list[bytes]:
    return [
        _refusal(number, UNHEEDED if group in UNHEEDED_GROUPS else REFUSED)
        for group in chosen.groups
        for number in CALLS[machine][group]
    ]


def _processes(machine: str, alone: bool) -> list[bytes]:
    """Who may be begun, and who reached by signals; clone3 hides its flags, and can be done
    without."""
    clone, clone3 = CLONE[machine]
    blocks = [_refusal(clone3, ABSENT), _flagged(clone, CLONE_NEWUSER)]
    if alone:
        directed, others = SIGNALS[machine]
        blocks += [_without(clone, CLONE_THREAD), *map(_refusal, others)]
        blocks += [_unless(number, os.getpid()) for number in directed]
    return blocks


def _of_architecture(known: int) -> bytes:
    return _steps(
        _step(LOAD, AT_ARCHITECTURE),
        _step(JUMP_EQUAL, known, 1, 0),
        _step(RETURN, KILL),
    )


def _of_table() -> bytes:
    return _steps(
        _step(LOAD, AT_NUMBER),
        _step(JUMP_REACHED, OTHER_TABLE, 0, 1),
        _step(RETURN, ABSENT),
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


def _unless(number: int, value: int) -> bytes:
    """Refuses a call whose first argument is not a value."""
    return _steps(
        _step(LOAD, AT_NUMBER),
        _step(JUMP_EQUAL, number, 0, 3),
        _step(LOAD, AT_FIRST),
        _step(JUMP_EQUAL, value, 1, 0),
        _step(RETURN, REFUSED),
    )


def _flagged(number: int, flag: int, place: int = AT_FIRST) -> bytes:
    """Refuses a call that has a flag in an argument."""
    return _steps(
        _step(LOAD, AT_NUMBER),
        _step(JUMP_EQUAL, number, 0, 3),
        _step(LOAD, place),
        _step(JUMP_SET, flag, 0, 1),
        _step(RETURN, REFUSED),
    )


def _steps(*steps: bytes) -> bytes:
    return b"".join(steps)


def _step(operation: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", operation, then, otherwise, value)
