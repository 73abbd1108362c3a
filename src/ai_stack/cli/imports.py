"""`import`: files, folders and URLs into documents, with the state of each file."""

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, BinaryIO

import typer

from ai_stack.cli.client import Answer, Gateway, connect, quoted
from ai_stack.cli.folders import Chosen, Found, walk
from ai_stack.cli.options import AsJson, MetadataPairs, print_json, read_metadata
from ai_stack.cli.progress import Bars, bars, follow
from ai_stack.settings import load_settings

BATCH_FILES, BATCH_BYTES = 50, 16 << 20
AHEAD = 3
POLL_S = 0.25
STALLED_S = 120.0
LISTED = 50

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("import")
def import_(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Files, and folders with all that is in them."),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Put before each path, which makes the document's id.")
    ] = "",
    metadata: MetadataPairs = None,
    url: Annotated[list[str] | None, typer.Option(help="Import this page or file too.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only such paths of folders.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="No such paths of folders.")
    ] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Hidden files too.")] = False,
    wait: Annotated[bool, typer.Option(help="Return when searches find all of it.")] = True,
    as_json: AsJson = False,
) -> None:
    """Import files; what is as it was is left alone. Exits 1 when a file could not be read."""
    if not paths and not url:
        raise typer.BadParameter("Name a PATH or a --url.")
    limit = load_settings().import_max_file_bytes
    found = walk(paths or [], Chosen(tuple(include or ()), tuple(exclude or ()), hidden, limit))
    fields = {"prefix": prefix, "metadata": json.dumps(read_metadata(metadata))}
    with connect() as gateway, bars(as_json) as shown:
        importing = Importing(gateway, shown, fields, found, url or [])
        importing.upload(wait)
        if wait:
            importing.settle()
    _report(importing, as_json)
    raise typer.Exit(1 if importing.failures else 0)


class Importing:
    """One import: batches of files go up while the runs of those before are followed."""

    def __init__(
        self,
        gateway: Gateway,
        shown: Bars,
        fields: dict[str, str],
        found: Found,
        urls: Sequence[str],
    ) -> None:
        self.gateway, self.shown, self.fields = gateway, shown, fields
        self.found, self.urls = found, urls
        self.runs: list[Answer] = []
        self.states = Counter[str]()
        self.failures = dict(found.refused)
        self._open: deque[tuple[Answer, int]] = deque()
        self._done = 0

    def upload(self, wait: bool) -> None:
        """Send everything; with `wait`, until each run has ended."""
        self._show()
        for batch in batches(self.found):
            self._started(self._send(batch), len(batch))
            while wait and len(self._open) > AHEAD:
                self._finish_oldest()
        for url in self.urls:
            body = {"url": url, **self.fields, "metadata": json.loads(self.fields["metadata"])}
            self._started(self.gateway.insist("POST", "/documents/import", json=body), 1)
        while wait and self._open:
            self._finish_oldest()

    def settle(self) -> None:
        """Wait until searches find what was imported."""
        most, waiting, moved = 0, 0, monotonic()
        while left := self.gateway.insist("GET", "/index")["waiting"]:
            most = max(most, left)
            moved = monotonic() if left != waiting else moved
            waiting = left
            self.shown.show("indexing", most - left, most)
            if monotonic() - moved > STALLED_S:
                self.failures["(index)"] = f"{left} documents wait; see `ai-stack health`."
                return
            sleep(POLL_S)

    def _send(self, batch: Sequence[tuple[str, Path]]) -> Answer:
        with ExitStack() as opened:
            files = [
                ("files", (key, file, "application/octet-stream"))
                for key, path in batch
                if (file := self._opened(opened, key, path)) is not None
            ]
            if not files:
                return {}
            return self.gateway.insist("POST", "/documents/import", data=self.fields, files=files)

    def _opened(self, opened: ExitStack, key: str, path: Path) -> BinaryIO | None:
        try:
            return opened.enter_context(path.open("rb"))
        except OSError as error:
            self.failures[key] = f"It cannot be read: {error.strerror}."
            return None

    def _started(self, run: Answer, count: int) -> None:
        if run:
            self.runs.append(run)
            self._open.append((run, count))

    def _finish_oldest(self) -> None:
        run, count = self._open.popleft()
        ended = follow(self.gateway, run, lambda done, _, message: self._show(done, message))
        self._done += count
        self._show()
        if ended["status"] != "succeeded":
            self.failures[f"(run {run['id']})"] = ended["error"] or f"It was {ended['status']}."
        for file in self.gateway.items(f"/runs/{quoted(run['id'])}/files", None):
            self.states[file["state"]] += 1
            if file["state"] == "failed":
                self.failures[file["path"]] = file["error"] or "It failed."

    def _show(self, more: float = 0, message: str = "") -> None:
        total = len(self.found.files) + len(self.urls)
        self.shown.show("files", min(self._done + more, total), total, message)


def batches(found: Found) -> Iterator[list[tuple[str, Path]]]:
    """The files in the order found, some dozens at a time, large ones alone."""
    batch: list[tuple[str, Path]] = []
    room = BATCH_BYTES
    for key, (path, size) in found.files.items():
        if batch and (len(batch) == BATCH_FILES or size > room):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append((key, path))
        room -= size
    if batch:
        yield batch


def _report(importing: Importing, as_json: bool) -> None:
    """What became of the files; failures last, where they are seen."""
    states, failures = dict(importing.states), importing.failures
    runs = [run["id"] for run in importing.runs]
    if as_json:
        print_json({"files": states, "failures": failures, "runs": runs})
        return
    for name, why in list(failures.items())[:LISTED]:
        print(f"failed  {name}: {why}")
    if len(failures) > LISTED:
        print(f"… and {len(failures) - LISTED} more; --json lists all.")
    skipped = f", {importing.found.skipped} skipped" if importing.found.skipped else ""
    counts = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    print(f"{counts or f'{len(runs)} runs started'}{skipped}")
