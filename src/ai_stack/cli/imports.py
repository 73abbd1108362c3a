"""`import`: files, folders and URLs into documents, with the state of each file."""

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO, TypeAlias

import typer

from ai_stack.cli.client import Answer, Gateway, connect, quoted
from ai_stack.cli.folders import Chosen, Found, walk
from ai_stack.cli.options import AsJson, MetadataPairs, print_json, read_metadata, say
from ai_stack.cli.progress import Bars, bars, progress_of
from ai_stack.settings import load_settings

BATCH_FILES, BATCH_BYTES = 50, 16 << 20
AHEAD = 3
LISTED = 50

Fields: TypeAlias = dict[str, str]

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
        importing = Importing(gateway, shown, fields, wait)
        importing.take(found, url or [])
    _report(importing, found.skipped, as_json)
    raise typer.Exit(1 if importing.failures else 0)


class Importing:
    """One import: batches of files go up while the runs of those before are followed."""

    def __init__(self, gateway: Gateway, shown: Bars, fields: Fields, wait: bool) -> None:
        self.gateway, self.shown, self.fields, self.wait = gateway, shown, fields, wait
        self.runs: list[Answer] = []
        self.states = Counter[str]()
        self.failures: dict[str, str] = {}
        self.notes: list[str] = []
        self._open: deque[Answer] = deque()
        self._ended = Counter[str]()

    def take(self, found: Found, urls: Sequence[str]) -> None:
        """Send everything; with `wait`, until each run has ended, the index included."""
        self.failures |= found.refused
        self._total = len(found.files) + len(urls)
        self._show()
        for batch in batches(found):
            self._started(self._send(batch))
        for url in urls:
            body = {"url": url, "prefix": self.fields["prefix"]}
            body |= {"metadata": json.loads(self.fields["metadata"])}
            self._started(self.gateway.insist("POST", "/documents/import", json=body))
        while self._open:
            self._finish_oldest()

    def _send(self, batch: Sequence[tuple[str, Path]]) -> Answer | None:
        with ExitStack() as opened:
            files = [
                ("files", (key, file, "application/octet-stream"))
                for key, path in batch
                if (file := self._opened(opened, key, path)) is not None
            ]
            if not files:
                return None
            return self.gateway.ask("POST", "/documents/import", data=self.fields, files=files)

    def _opened(self, opened: ExitStack, key: str, path: Path) -> BinaryIO | None:
        try:
            return opened.enter_context(path.open("rb"))
        except OSError as error:
            self.failures[key] = f"It cannot be read: {error.strerror}."
            return None

    def _started(self, run: Answer | None) -> None:
        if run is None:
            return
        self.runs.append(run)
        if self.wait:
            self._open.append(run)
            if len(self._open) > AHEAD:
                self._finish_oldest()

    def _finish_oldest(self) -> None:
        run = self._open.popleft()
        told: Answer = {}
        for told in progress_of(self.gateway, run):
            self._show(told)
        self._ended += Counter(_amounts(told))
        run = self.gateway.insist("GET", f"/runs/{quoted(run['id'])}")
        for file in self.gateway.items(f"/runs/{quoted(run['id'])}/files", None):
            self.states[file["state"]] += 1
            if file["state"] == "failed":
                self.failures[file["path"]] = file["error"]
        self._note(run)
        self._show()

    def _note(self, run: Answer) -> None:
        """What a run has to say beside its files."""
        output = run["output"] or {}
        if run["status"] == "cancelled":
            self.failures[f"run {run['id']}"] = "It was cancelled."
        elif run["status"] == "failed" and not self.states["failed"]:
            self.failures[f"run {run['id']}"] = run["error"]
        if "pending" in output:
            why = output["waiting_for"]
            self.notes.append(f"{output['pending']} documents are not searchable yet: {why}")
        if "not_indexed" in output:
            count = output["not_indexed"]
            self.failures[f"run {run['id']}"] = (
                f"{count} documents could not be indexed; `ai-stack documents list --state failed`."
            )

    def _show(self, told: Answer | None = None) -> None:
        now = self._ended + Counter(_amounts(told or {}))
        message = str((told or {}).get("message", ""))
        self.shown.show("files", min(now["files"], self._total), self._total, message)
        if now["documents"]:
            self.shown.show("indexing", now["indexed"], now["documents"])


def _amounts(told: Answer) -> dict[str, int]:
    """How much of a run is done by what it told last."""
    return {
        "files": told.get("done", 0),
        "documents": told.get("documents", 0),
        "indexed": told.get("indexed", 0),
    }


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


def _report(importing: Importing, skipped: int, as_json: bool) -> None:
    """What became of the files; failures last, where they are seen."""
    states, failures = dict(importing.states), importing.failures
    runs = [run["id"] for run in importing.runs]
    if as_json:
        counts: Answer = {"files": states, "skipped": skipped, "failures": failures}
        print_json({**counts, "notes": importing.notes, "runs": runs})
        return
    for name, why in list(failures.items())[:LISTED]:
        say(f"failed  {name}: {why}")
    if len(failures) > LISTED:
        say(f"… and {len(failures) - LISTED} more; --json lists all.")
    for note in importing.notes:
        say(note)
    parts = [f"{n} {state}" for state, n in sorted(states.items())]
    parts += [f"{skipped} skipped"] if skipped else []
    say(", ".join(parts) or f"{len(runs)} runs started; `ai-stack runs list` shows them.")
