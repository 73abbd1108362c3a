"""How a pull looks: a bar on a terminal, plain lines where there is none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ai_stack.cli.options import printable
from ai_stack.weights.pull import Progress, Step

EVERY_S = 5.0


@contextmanager
def shown(quiet: bool = False) -> Iterator[Progress]:
    """Something to tell of a pull to, on the standard error; Ctrl-C says what becomes of it."""
    try:
        if quiet:
            yield lambda step: None
        elif sys.stderr.isatty():
            with _bar() as tell:
                yield tell
        else:
            yield _Lines()
    except KeyboardInterrupt:
        _line("What has come stays: pull again to go on.")
        sys.exit(130)


class _Lines:
    """A line for what is told, and one every few seconds for the bytes."""

    def __init__(self) -> None:
        self._told_at, self._had = time.monotonic(), -1

    def __call__(self, step: Step) -> None:
        if step.text:
            _line(step.text)
        if step.stage == "downloading" and self._due(step):
            self._told_at, self._had = time.monotonic(), step.done_bytes
            percent = 100 * step.done_bytes // max(1, step.size_bytes)
            sizes = f"{step.done_bytes / (1 << 20):.1f} of {step.size_bytes / (1 << 20):.1f} MiB"
            _line(f"{percent:3} %  {sizes}  {step.file}")

    def _due(self, step: Step) -> bool:
        first, last = self._had < 0, step.done_bytes == step.size_bytes
        return first or last or time.monotonic() - self._told_at >= EVERY_S


@contextmanager
def _bar() -> Iterator[Callable[[Step], None]]:
    from rich.console import Console  # noqa: PLC0415 (verbs that show none go without it)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(step: Step) -> None:
            if step.text:
                progress.console.print(printable(step.text), markup=False, highlight=False)
            if step.size_bytes:
                whole = step.done_bytes >= step.size_bytes
                name = "checking" if whole else printable(step.file)
                progress.update(
                    task, description=name, completed=step.done_bytes, total=step.size_bytes
                )

        yield tell


def _line(text: str) -> None:
    with suppress(OSError):  # a reader that left is no reason to stop
        print(printable(text), file=sys.stderr, flush=True)
