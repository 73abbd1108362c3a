"""`export`: documents as JSON Lines, which `import` takes back."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import typer

from ai_stack.cli.client import connect
from ai_stack.cli.options import AsJson, FilterText, print_json, read_filter
from ai_stack.cli.progress import bars
from ai_stack.errors import StackError
from ai_stack.settings import load_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def export(
    output: str | None = typer.Option(
        None,
        "--output",
        "-o",
        metavar="FILE",
        help="Where to; - is the standard output. By default exports/<time>.jsonl of the data.",
    ),
    filter: FilterText = None,
    as_json: AsJson = False,
) -> None:
    """Write all documents, or those that match, to a file; an interrupted one leaves none."""
    asked = {"filter": read_filter(filter)}
    with connect() as gateway, gateway.bytes("/documents/export", **asked) as body:
        if output == "-":
            _copy(body, sys.stdout.buffer)
            return
        file = _default() if output is None else Path(output)
        with bars(as_json) as shown:
            count = _save(_counted(body, shown.show), file)
    if as_json:
        print_json({"file": str(file), "documents": count, "size_bytes": file.stat().st_size})
    else:
        print(f"{count} documents are in {file}")


def _default() -> Path:
    moment = datetime.now(UTC).astimezone()
    return load_settings().data_dir / "exports" / f"{moment:%Y%m%d-%H%M%S}.jsonl"


def _save(body: Iterable[bytes], file: Path) -> int:
    """Write beside the file, then put it in its place: it is whole or not there."""
    part = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _private(part) as sink:
            count = _copy(body, sink)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(file)
    except OSError as error:
        raise StackError(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return count


def _private(file: Path) -> BinaryIO:
    """Open a file for writing that no other user of the machine can read."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _copy(body: Iterable[bytes], sink: BinaryIO) -> int:
    count = 0
    for piece in body:
        sink.write(piece)
        count += piece.count(b"\n")
    return count


def _counted(body: Iterable[bytes], show: object) -> Iterator[bytes]:
    assert callable(show)
    count = 0
    for piece in body:
        count += piece.count(b"\n")
        show("documents", count, None)
        yield piece
