"""The scorecard with few cases: every row green on the product, red on a build with its defect."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reliability.disk import small_disk
from reliability.grounds import Ground, stack
from reliability.scorecard import ROWS, VARIABLES, run, table
from reliability.verdicts import NotRunHere, Row, Verdict

SEED = 1
SHARED = [row for row in ROWS.values() if not row.disk_bytes]
DISKS = [row for row in ROWS.values() if row.disk_bytes]


@pytest.fixture(scope="module")
async def ground() -> AsyncIterator[Ground]:
    with stack(**VARIABLES) as running:
        yield running


@pytest.fixture(scope="module")
async def full_ground() -> AsyncIterator[Ground]:
    """A stack on a small disk."""
    try:
        with small_disk(DISKS[0].disk_bytes) as folder, stack(folder / "data") as running:
            yield running
    except NotRunHere as reason:
        pytest.skip(f"not run: {reason}")


async def verdict(row: Row, ground: Ground, logs: Path, plant: str | None = None) -> Verdict:
    found = await run(row, ground, full=False, seed=SEED, plant=plant, logs=logs)
    print(table([found]))
    return found


def marks(row: Row, *, further: bool = False) -> list[pytest.MarkDecorator]:
    return [pytest.mark.reliability] * (not row.calm) + [pytest.mark.plants] * further


def kept(rows: list[Row]) -> list[object]:
    return [pytest.param(row, id=str(row.number), marks=marks(row)) for row in rows]


def planted(rows: list[Row]) -> list[object]:
    """Each row with each of its defects; those after a row's first are marked `plants`."""
    return [
        pytest.param(row, name, id=f"{row.number}-{name}", marks=marks(row, further=n > 0))
        for row in rows
        for n, name in enumerate(row.plants)
    ]


def test_no_promise_is_missing() -> None:
    assert sorted(ROWS) == [*range(1, 29)]


@pytest.mark.parametrize("row", kept(SHARED))
async def test_promise_is_kept(row: Row, ground: Ground, tmp_path: Path) -> None:
    assert (await verdict(row, ground, tmp_path)).faults == ()


@pytest.mark.parametrize(("row", "plant"), planted(SHARED))
async def test_planted_defect_turns_it_red(
    row: Row, plant: str, ground: Ground, tmp_path: Path
) -> None:
    assert (await verdict(row, ground, tmp_path, plant)).verdict == "FAIL"


@pytest.mark.parametrize("row", kept(DISKS))
async def test_promise_is_kept_on_a_full_disk(
    row: Row, full_ground: Ground, tmp_path: Path
) -> None:
    assert (await verdict(row, full_ground, tmp_path)).faults == ()


@pytest.mark.parametrize(("row", "plant"), planted(DISKS))
async def test_planted_defect_turns_it_red_on_a_full_disk(
    row: Row, plant: str, full_ground: Ground, tmp_path: Path
) -> None:
    assert (await verdict(row, full_ground, tmp_path, plant)).verdict == "FAIL"
