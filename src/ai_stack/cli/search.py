"""`search`: find passages by meaning and by words."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from ai_stack.cli.client import Answer, connect
from ai_stack.cli.options import AsJson, FilterText, print_json, printable, read_filter

WINDOW = 320
WORD = re.compile(r"\w{3,}")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Mode(StrEnum):
    """How documents are found."""

    hybrid = "hybrid"
    semantic = "semantic"
    keyword = "keyword"


@app.command()
def search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY...", help="What to look for.")],
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=100, help="Documents to show.")
    ] = 5,
    offset: Annotated[int, typer.Option(min=0, max=900, help="Documents to skip.")] = 0,
    mode: Annotated[Mode, typer.Option(help="By meaning, by words, or both.")] = Mode.hybrid,
    filter: FilterText = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out what scores less.")] = None,
    rerank: Annotated[bool, typer.Option(help="Have the reranker order the best.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Show all passages whole.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the documents that answer QUERY, with the passage that does; exits 1 for none."""
    text = " ".join(query)
    body = {"query": text, "limit": limit, "offset": offset, "mode": mode.value, "rerank": rerank}
    optional = {"filter": read_filter(filter), "min_score": min_score}
    body |= {name: value for name, value in optional.items() if value is not None}
    with connect() as gateway:
        found = gateway.ask("POST", "/search/semantic", json=body)
    if as_json:
        print_json(found)
    else:
        _show(found, text, offset, full)
    raise typer.Exit(0 if found["results"] else 1)


def _show(found: Answer, query: str, offset: int, full: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 (JSON goes without it)

    console = Console(soft_wrap=True, highlight=False)
    for rank, result in enumerate(found["results"], offset + 1):
        document = result["document"]
        title = document["metadata"].get("title", "")
        head = f"{rank:>2}  {result['score']:.3f}  {document['id']}"
        console.print(printable(f"{head}  {title}".rstrip()), style="bold", markup=False)
        for passage in result["passages"] if full else result["passages"][:1]:
            _show_passage(console.print, document["content"], passage, query, full)
    count = len(found["results"])
    console.print(f"{count} documents in {found['took_ms']:.0f} ms", style="dim")
    if "degraded" in found:
        console.print(found["degraded"], style="yellow")


def _show_passage(show: object, content: str, passage: Answer, query: str, full: bool) -> None:
    from rich.text import Text  # noqa: PLC0415

    assert callable(show)
    words = WORD.findall(query)
    shown = printable(passage["text"] if full else excerpt(passage["text"], words))
    text = Text("\n".join(f"      {line}" for line in shown.splitlines() or [""]))
    if words:
        text.highlight_words(words, "bold green", case_sensitive=False)
    show(text)
    line = content.count("\n", 0, passage["start"]) + 1
    place = f"      line {line}, characters {passage['start']} to {passage['end']}"
    show(place, style="dim", markup=False)


def excerpt(text: str, words: Sequence[str], width: int = WINDOW) -> str:
    """One line of `text`, `width` characters at most, where most of the words stand."""
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    wanted = [word.casefold() for word in words]
    lowered = line.casefold()
    starts = [0, *(m.start() for m in re.finditer(r"(?<=[.!?:] )\S", line))]
    best = max(starts, key=lambda at: sum(word in lowered[at : at + width] for word in wanted))
    cut = line[best : best + width - 2].rsplit(" ", 1)[0]
    return f"{'…' if best else ''}{cut}…"
