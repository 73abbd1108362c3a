"""This machine's disks, memory, load and processes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from .checks import Checked, graded

GIB = 1 << 30
UNIT = ".service"
MOST_DISKS = 20
LOAD_PER_PROCESSOR = 2.0
SWAP_PERCENT = 80.0
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Limits:
    """Least free share of a disk, greatest used share of memory, both in percent."""

    min_free_percent: float
    max_memory_percent: float


def check_machine(limits: Limits, disks: Sequence[str]) -> list[Checked]:
    """Disks, memory, swap and load."""
    found = [one for disk in disks or mounted() for one in _disk(disk, limits.min_free_percent)]
    return [*found, _memory(limits.max_memory_percent), *_swap(), _load()]


def check_services(names: Sequence[str]) -> list[Checked]:
    """Whether each runs: a process of that name, or one that systemd keeps under a unit's."""
    if not names:
        return []
    running = _programs()
    return [_service(name, running) for name in names]


def mounted() -> list[str]:
    """The places of the machine's own disks, one for each, the root's first."""
    places = {"/": Path("/").stat().st_dev}
    for part in psutil.disk_partitions(all=False):
        try:
            device = Path(part.mountpoint).stat().st_dev
        except OSError:
            continue
        if device not in places.values() and Path(part.mountpoint).is_dir():
            places[part.mountpoint] = device
    return [*places][:MOST_DISKS]


def _disk(place: str, least: float) -> Iterator[Checked]:
    try:
        usage, facts = psutil.disk_usage(place), os.statvfs(place)
    except (OSError, ValueError):
        yield Checked("disk", place, "fault", f"{place} is not there.")
        return
    free = usage.free / usage.total * 100 if usage.total else 100.0
    told = f"{place} has {free:.1f} % free, {usage.free / GIB:.1f} GiB of {usage.total / GIB:.1f}."
    yield Checked("disk", place, graded(-free, -2 * least, -least), told, free, least)
    if facts.f_files:
        inodes = facts.f_favail / facts.f_files * 100
        status = graded(-inodes, -2 * least, -least)
        told = f"{place} has {inodes:.1f} % of its inodes free."
        yield Checked("inodes", place, status, told, inodes, least)


def _memory(most: float) -> Checked:
    memory = psutil.virtual_memory()
    left = f"{memory.available / GIB:.1f} GiB of {memory.total / GIB:.1f} are left"
    status = graded(memory.percent, most - (100 - most), most)
    told = f"Memory is used to {memory.percent:.1f} %; {left}."
    return Checked("memory", "memory", status, told, memory.percent, most)


def _swap() -> Iterator[Checked]:
    swap = psutil.swap_memory()
    if swap.total:
        status = graded(swap.percent, SWAP_PERCENT, 100)
        told = f"Swap is used to {swap.percent:.1f} %."
        yield Checked("swap", "swap", status, told, swap.percent, SWAP_PERCENT)


def _load() -> Checked:
    processors = psutil.cpu_count() or 1
    load, limit = psutil.getloadavg()[2], LOAD_PER_PROCESSOR * (psutil.cpu_count() or 1)
    told = f"The load of 15 minutes is {load:.2f} on {processors} processors."
    return Checked("load", "load", "warning" if load > limit else "ok", told, load, limit)


def _programs() -> dict[str, list[int]]:
    """Processes by every name that they go by; what ended meanwhile or is a zombie is none."""
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter(["pid", "name", "exe", "status", "cmdline"]):
        facts = process.info
        if facts["status"] == psutil.STATUS_ZOMBIE:
            continue
        command = facts["cmdline"] or [""]
        names = {facts["name"] or "", Path(facts["exe"] or "").name, Path(command[0]).name}
        for name in names - {""}:
            found.setdefault(name, []).append(facts["pid"])
    return found


def _service(name: str, running: dict[str, list[int]]) -> Checked:
    pids = _of_unit(name) if name.endswith(UNIT) else running.get(name, [])
    if not pids:
        return Checked("service", name, "fault", f"{name} does not run.", 0)
    several = f" and {len(pids) - 1} more" if len(pids) > 1 else ""
    told = f"{name} runs as process {min(pids)}{several}."
    return Checked("service", name, "ok", told, len(pids))


def _of_unit(name: str) -> list[int]:
    """Processes in a control group of this name."""
    found = []
    for pid in psutil.pids():
        try:
            groups = (PROC / str(pid) / "cgroup").read_text()
        except OSError:
            continue
        if any(name in line.split("/") for line in groups.splitlines()):
            found.append(pid)
    return found
