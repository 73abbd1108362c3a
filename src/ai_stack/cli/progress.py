"""Progress on a terminal: one bar for each stage, and a run followed to its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ai_stack.cli.client import Answer, Gateway, quoted

if TYPE_CHECKING:
    from rich.progress import Progress


class Bars:
    """Bars by name; silent without a terminal."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._tasks: dict[str, int] = {}

    def show(self, name: str, done: float, total: float | None, message: str = "") -> None:
        """Draw the bar `name`; without a total it moves to and fro."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, message="")
        task = self._progress.tasks[self._tasks[name]].id
        self._progress.update(task, completed=done, total=total, message=message)


@contextmanager
def bars(quiet: bool = False) -> Iterator[Bars]:
    """Bars on the standard error until the context is left."""
    from rich.console import Console  # noqa: PLC0415 (verbs that show none go without it)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", markup=False),
    )
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        yield Bars(progress)


def follow(gateway: Gateway, run: Answer, shown: Bars) -> Answer:
    """The run as it ended, its progress shown meanwhile."""
    for data in progress_of(gateway, run):
        shown.show(run["kind"], data["done"], data["total"], str(data["message"]))
    return gateway.insist("GET", f"/runs/{quoted(run['id'])}")


def progress_of(gateway: Gateway, run: Answer) -> Iterator[Answer]:
    """What a run tells of its progress until it has ended: done, total, message and more."""
    told: Answer = {"done": 0, "total": None, "message": ""}
    for kind, data in gateway.events(run["id"]):
        told = {**told, **data} if kind == "progress" else told
        if kind == "progress" or "waiting" in data:
            yield {**told, "message": data.get("waiting", told["message"])}
