"""PostgreSQL's and Redis' settings, worked out from the memory that they may count with.

16 GB give the values of the specification. It changes nothing: whoever starts a server uses it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB, GIB = 1 << 20, 1 << 30
CONNECTIONS = 100
SHARE = 4  # an editor, a browser and the models have the rest of the machine
CGROUP = Path("/sys/fs/cgroup/memory.max")
UNITS = {"kb": 1 << 10, "mb": MIB, "gb": GIB}


@dataclass(frozen=True, slots=True)
class Tuned:
    """One setting of a server: its value in the server's own words, and why it is that."""

    server: str
    name: str
    value: str
    why: str


def memory_bytes(given: str | None) -> int:
    """What the servers may count with: as given (`16gb`), else a part of this machine's memory.

    Linux' limit for a container counts as the machine's memory.
    """
    if given is not None:
        number, unit = given[:-2], given[-2:].lower()
        return int(number) * UNITS[unit]
    return machine_bytes() // SHARE


def machine_bytes() -> int:
    total: int = psutil.virtual_memory().total
    try:
        limit = CGROUP.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def tuned(memory: int) -> list[Tuned]:
    """All settings that follow from so many bytes of memory."""
    found = [*_caches(memory), *_work(memory), *_wal(memory), *_disks()]
    cache = _within(memory // 8, 64 * MIB, max(512 * MIB, min(memory // 32, 4 * GIB)))
    why = "512 MB, at most 1/8; 1/32 of more than 16 GB"
    redis = Tuned("redis", "maxmemory", _size(cache).lower(), why)
    return [*(Tuned("postgres", *one) for one in found), redis]


def configuration(memory: int) -> str:
    """The lines of postgresql.conf."""
    return "".join(f"{t.name} = {t.value}\n" for t in tuned(memory) if t.server == "postgres")


def redis_maxmemory(memory: int) -> str:
    """As redis.conf has it."""
    return next(t.value for t in tuned(memory) if t.server == "redis")


def _caches(memory: int) -> Iterator[tuple[str, str, str]]:
    shared = _within(memory // 4, 128 * MIB, 16 * GIB)
    yield "shared_buffers", _size(shared), "1/4: pages that PostgreSQL keeps itself"
    yield "effective_cache_size", _size(memory * 3 // 4), "3/4: with what the system keeps of it"


def _work(memory: int) -> Iterator[tuple[str, str, str]]:
    left = memory - _within(memory // 4, 128 * MIB, 16 * GIB)
    each = _within(-(-left // (CONNECTIONS * 3 * MIB)) * MIB, 4 * MIB, GIB)
    yield "work_mem", _size(each), f"3/4 over {CONNECTIONS} connections with three sorts each"
    upkeep = _within(memory // 16, 64 * MIB, 2 * GIB)
    yield "maintenance_work_mem", _size(upkeep), "1/16: building indexes, vacuum"


def _wal(memory: int) -> Iterator[tuple[str, str, str]]:
    yield "wal_buffers", "16MB", "one segment of the log"
    least = _within(memory // 8, 80 * MIB, 2 * GIB)
    yield "min_wal_size", _size(least), "1/8, at most 2 GB: log that is kept for use again"
    most = _within(memory // 2, GIB, 8 * GIB)
    yield "max_wal_size", _size(most), "1/2, at most 8 GB: log between two checkpoints"


def _disks() -> Iterator[tuple[str, str, str]]:
    yield "checkpoint_completion_target", "0.9", "checkpoints are spread over their time"
    yield "random_page_cost", "1.1", "an SSD reads anywhere at about the same cost"
    yield "effective_io_concurrency", "200", "an SSD works on many reads at once"
    yield "default_statistics_target", "100", "PostgreSQL's own; more makes planning slower"


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def _size(value: int) -> str:
    """In the largest unit that has it whole, MB at least."""
    value = value // MIB * MIB
    return f"{value // GIB}GB" if value % GIB == 0 else f"{value // MIB}MB"
