"""Processes and the memory that they hold; those that end meanwhile are no failure."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from ai_stack.skill import JSON

MIB = 1 << 20
FOLLOWED_BY_DEFAULT = 20
CGROUP, OF_THIS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def memory() -> dict[str, int]:
    """The machine's memory and swap; a control group's limit where it is less."""
    state, swap = psutil.virtual_memory(), psutil.swap_memory()
    found = {
        "total_bytes": state.total,
        "available_bytes": state.available,
        "swap_total_bytes": swap.total,
        "swap_used_bytes": swap.used,
    }
    limit = _limit()
    if limit is not None and limit[0] < state.total:
        found["limit_bytes"] = limit[0]
        found["available_bytes"] = min(state.available, max(0, limit[0] - limit[1]))
    return found


def listed(top: int, name: str, group: bool) -> tuple[list[dict[str, JSON]], int]:
    """The largest processes, or names, and how many of them do not show what is their own."""
    sized = [(rss, process) for rss, process in _sized() if name in process.info["name"]]
    if group:
        return _grouped(sized)[:top], 0
    ranked = sorted(sized, key=lambda pair: -pair[0])[:top]
    rows = [_row(rss, process) for rss, process in ranked]
    return rows, sum(row["own_bytes"] is None for row in rows)


def chosen(pids: Sequence[int], names: Sequence[str], most: int) -> list[psutil.Process]:
    """The processes that are asked for, the largest where none are."""
    ranked = sorted(_sized(), key=lambda pair: -pair[0])
    if not pids and not names:
        return [process for _, process in ranked[:FOLLOWED_BY_DEFAULT]]
    wanted, called = set(pids), set(names)
    return [p for _, p in ranked if p.pid in wanted or p.info["name"] in called][:most]


def _sized() -> Iterator[tuple[int, psutil.Process]]:
    """Every process with what it holds in memory; the kernel's own hold nothing."""
    for process in psutil.process_iter(["name", "memory_info"]):
        held = process.info["memory_info"]
        if held is not None and held.rss:
            yield held.rss, process


def _row(rss: int, process: psutil.Process) -> dict[str, JSON]:
    return {
        "pid": process.pid,
        "name": process.info["name"],
        "rss_bytes": rss,
        "own_bytes": _own(process),
        "command": _command(process),
    }


def _own(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_full_info().uss)
    except GONE:
        return None


def _command(process: psutil.Process) -> str:
    """The program and its module or script: other arguments may be secrets."""
    try:
        words = process.cmdline()
    except GONE:
        return ""
    shown = words[:1]
    if len(words) > 2 and words[1] == "-m":
        shown = words[:3]
    elif len(words) > 1 and not words[1].startswith("-"):
        shown = words[:2]
    return " ".join(Path(word).name for word in shown)[:200]


def _grouped(sized: Sequence[tuple[int, psutil.Process]]) -> list[dict[str, JSON]]:
    sums: dict[str, list[int]] = {}
    for rss, process in sized:
        sums.setdefault(process.info["name"], []).append(rss)
    ranked = sorted(sums.items(), key=lambda pair: -sum(pair[1]))
    return [{"name": n, "count": len(held), "rss_bytes": sum(held)} for n, held in ranked]


def _limit() -> tuple[int, int] | None:
    """Limit and use of the closest control group that has a limit."""
    try:
        lines = OF_THIS.read_text().splitlines()
        name = next(line[3:] for line in lines if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    folder = CGROUP / name.strip("/")
    for place in (folder, *folder.parents):
        try:
            limit = (place / "memory.max").read_text().strip()
            used = int((place / "memory.current").read_text())
        except (OSError, ValueError):
            continue
        if limit.isdigit():
            return int(limit), used
    return None
