"""What a row is: a promise, how it is measured, and the defects that must turn it red."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from reliability.grounds import Ground

State = Literal["pass", "FAIL", "not run"]


class NotRunHere(Exception):
    """This machine cannot run the row, so it says nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`faults` are sentences, none when the promise was kept; `figures` are what was seen."""

    figures: Mapping[str, object]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a row: where, how much of it, by which seed, with which planted defect."""

    ground: Ground
    full: bool
    seed: int
    plant: str | None
    log: "Log"

    def size(self, reduced: int, full: int) -> int:
        return full if self.full else reduced


@dataclass(frozen=True, slots=True)
class Row:
    """`plants` are names in plants.py; `disk_bytes` is the size of the tmpfs that the row wants.

    A calm row measures no time and no memory, so that other work may go on beside it.
    """

    number: int
    promise: str
    target: str
    measure: Callable[[Trial], Awaitable[Measured]]
    plants: tuple[str, ...]
    disk_bytes: int = 0
    calm: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    row: int
    promise: str
    measured: str
    target: str
    verdict: State
    seed: int
    seconds: float
    log: str
    faults: tuple[str, ...] = ()
    plant: str | None = None


@dataclass
class Log:
    """The raw log of a row: one JSON object a line, seconds since its start first."""

    path: Path
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.path.unlink(missing_ok=True)

    def write(self, event: str, **details: Any) -> None:
        line = {"s": round(time.monotonic() - self._started, 4), "event": event, **details}
        with self.path.open("a") as file:
            file.write(json.dumps(line, default=str) + "\n")


async def judge(row: Row, trial: Trial) -> Verdict:
    """Run a row and judge it."""
    started = time.monotonic()
    trial.log.write("begin", row=row.number, seed=trial.seed, plant=trial.plant, full=trial.full)
    state: State
    try:
        found = await row.measure(trial)
    except NotRunHere as reason:
        state, measured, faults = "not run", str(reason), ()
    else:
        state = "FAIL" if found.faults else "pass"
        measured = ", ".join(f"{name} {value}" for name, value in found.figures.items())
        faults = found.faults
    verdict = Verdict(
        row.number,
        row.promise,
        measured,
        row.target,
        state,
        trial.seed,
        round(time.monotonic() - started, 1),
        str(trial.log.path),
        tuple(faults),
        trial.plant,
    )
    trial.log.write("verdict", **asdict(verdict))
    return verdict


def not_run(row: Row, reason: str, seed: int) -> Verdict:
    """Neither kept nor broken: what the row needs is not to be had here."""
    return Verdict(row.number, row.promise, reason, row.target, "not run", seed, 0.0, "")
