"""PostgreSQL's and Redis' settings by memory."""

import pytest

from ai_stack.supervisor.tuning import GIB, configuration, machine_bytes, memory_bytes, tuned

# The specification's own, for 16 GB.
SPECIFIED = {
    "shared_buffers": "4GB",
    "effective_cache_size": "12GB",
    "maintenance_work_mem": "1GB",
    "checkpoint_completion_target": "0.9",
    "wal_buffers": "16MB",
    "default_statistics_target": "100",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "200",
    "work_mem": "41MB",
    "min_wal_size": "2GB",
    "max_wal_size": "8GB",
    "maxmemory": "512mb",
}


def test_16_gb_give_the_values_of_the_specification() -> None:
    assert {one.name: one.value for one in tuned(16 * GIB)} == SPECIFIED


@pytest.mark.parametrize("gib", [0.25, 1, 2, 6, 24, 256, 4096])
def test_no_machine_gets_more_than_it_has(gib: float) -> None:
    sizes = {t.name: size(t.value) for t in tuned(int(gib * GIB)) if t.value[-2:].lower() != "0"}
    assert sizes["shared_buffers"] + sizes["maxmemory"] <= max(gib * GIB / 2, 192 << 20)
    assert sizes["min_wal_size"] < sizes["max_wal_size"]


def size(value: str) -> float:
    units = {"mb": 1 << 20, "gb": GIB}
    return int(value[:-2]) * units[value[-2:].lower()] if value[-2:].lower() in units else 0


def test_memory_is_as_given_or_a_part_of_the_machines() -> None:
    assert memory_bytes("16gb") == 16 * GIB
    assert memory_bytes("512MB") == 512 << 20
    assert memory_bytes(None) == machine_bytes() // 4


def test_every_setting_has_a_reason() -> None:
    assert all(one.why for one in tuned(GIB))
    assert "shared_buffers = 256MB\n" in configuration(GIB)
