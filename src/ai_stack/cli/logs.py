"""`logs`: the parts' log files, the whole stack's lines in the order of their times."""

import time
from heapq import merge
from pathlib import Path
from typing import Annotated

import typer

from ai_stack.errors import StackError
from ai_stack.settings import load_settings
from ai_stack.supervisor.journal import Follower, stamped, tail

FILES = {"aidb-mcp": "aidb", "gateway": "aidb", "roles": "postgres"}
QUIET = ("embedder", "vectors", "worker")  # parts that may have written nothing yet
PAUSE_S = 0.2

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def logs(
    part: Annotated[
        str | None, typer.Argument(help="postgres, redis, embedder, vectors, worker, aidb-mcp, …")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines to show.")] = 50,
) -> None:
    """Show the last lines of one part's log, or of all, each with the part's name before it."""
    files = _files(load_settings().data_dir / "logs", part)
    width = max(map(len, files)) if part is None else 0
    followers = {name: Follower(file) for name, file in files.items()}
    found = merge(*(stamped(tail(file, lines), name) for name, file in files.items()))
    for _, name, line in list(found)[-lines:] if lines else ():
        _show(name, line, width)
    while follow:
        time.sleep(PAUSE_S)
        for name, follower in followers.items():
            for line in follower.new_lines():
                _show(name, line, width)


def _files(folder: Path, part: str | None) -> dict[str, Path]:
    known = {file.stem: file for file in sorted(folder.glob("*.log"))}
    if part is None:
        return known
    name = FILES.get(part, part)
    if name in QUIET:
        return {part: folder / f"{name}.log"}
    if name not in known:
        raise StackError(f"There is no log of {part} in {folder}; there are {', '.join(known)}.")
    return {part: known[name]}


def _show(name: str, line: str, width: int) -> None:
    print(f"{name:{width}} | {line}" if width else line, flush=True)
