"""`documents`: add, list, show, edit, delete and retry documents through the gateway."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_stack.cli.client import Answer, Refused, connect, quoted
from ai_stack.cli.options import (
    AsJson,
    Everything,
    FilterText,
    MetadataPairs,
    Number,
    Wait,
    print_json,
    read_filter,
    read_metadata,
    say,
    shortened,
)
from ai_stack.errors import InvalidRequest

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The document's id.")]
Text = Annotated[str | None, typer.Option("--text", "-t", help="The content itself.")]


class State(StrEnum):
    """Where a document is on its way into the index."""

    pending = "pending"
    indexed = "indexed"
    failed = "failed"


@app.command()
def add(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Text files in UTF-8; - is the standard input."),
    ] = None,
    text: Text = None,
    id: Annotated[str | None, typer.Option(help="Your own id for it; free so far.")] = None,
    metadata: MetadataPairs = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Store text as documents, all or none. `ai-stack import` reads other formats."""
    contents = [_read(file) for file in files or ()] + ([] if text is None else [text])
    if not contents:
        raise typer.BadParameter("Name a FILE, - or --text.")
    if id is not None and len(contents) > 1:
        raise typer.BadParameter("One --id cannot name several documents.", param_hint="--id")
    shared = read_metadata(metadata)
    new = [{"content": content, "metadata": shared} for content in contents]
    with connect() as gateway:
        body = {**new[0], **({} if id is None else {"id": id})} if len(new) == 1 else None
        answer = gateway.ask(
            "POST", "/documents", json=body or {"documents": new}, params={"wait": wait}
        )
    _show_written([answer] if body else answer["items"], "added", as_json)


@app.command("list")
def list_documents(
    limit: Number = 50,
    everything: Everything = False,
    search: Annotated[str | None, typer.Option("--search", "-s", help="Words it has.")] = None,
    filter: FilterText = None,
    state: Annotated[State | None, typer.Option(help="How its indexing is.")] = None,
    as_json: AsJson = False,
) -> None:
    """List documents, oldest first."""
    asked = {"search": search, "filter": read_filter(filter), "state": state}
    with connect() as gateway:
        found = gateway.items("/documents", None if everything else limit, **asked)
        if as_json:
            print_json({"items": list(found)})
            return
        for document in found:
            say(_line(document))


@app.command()
def show(id: Id, as_json: AsJson = False) -> None:
    """Show one document: its metadata and its content."""
    with connect() as gateway:
        found = gateway.ask("GET", _path(id))
    if as_json:
        print_json(found)
        return
    facts = {name: found[name] for name in ("id", "state", "created_at", "updated_at")}
    for name, value in {**facts, **_error(found), **found["metadata"]}.items():
        say(f"{name}: {value}")
    say(f"\n{found['content']}")


@app.command()
def edit(
    id: Id,
    file: Annotated[
        str | None, typer.Argument(help="File with the new content; - is the standard input.")
    ] = None,
    text: Text = None,
    metadata: MetadataPairs = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Metadata to remove.")
    ] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Change a document's content or metadata; what is not named stays."""
    content = text if file is None else _read(file)
    change: dict[str, Any] = {} if content is None else {"content": content}
    described = {**read_metadata(metadata), **dict.fromkeys(unset or (), None)}
    if described:
        change["metadata"] = described
    if not change:
        raise typer.BadParameter("Name a FILE, --text, --metadata or --unset.")
    with connect() as gateway:
        answer = gateway.ask("PATCH", _path(id), json=change, params={"wait": wait})
    _show_written([answer], "changed", as_json)


@app.command()
def delete(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Documents to remove.")],
    wait: Annotated[bool, typer.Option(help="Return when its vectors are gone too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Remove documents for good; exits 1 when one of them was not there."""
    missing = []
    with connect() as gateway:
        for id in ids:
            try:
                gateway.ask("DELETE", _path(id), params={"wait": wait})
            except Refused as error:
                if error.answered != 404:
                    raise
                missing.append(id)
    deleted = [id for id in ids if id not in missing]
    if as_json:
        print_json({"deleted": deleted, "missing": missing})
    else:
        for id in ids:
            say(f"{'not there' if id in missing else 'deleted'}  {id}")
    raise typer.Exit(1 if missing else 0)


@app.command()
def retry(as_json: AsJson = False) -> None:
    """Index the documents anew that could not be indexed before."""
    with connect() as gateway:
        found = gateway.ask("POST", "/documents/retry")
    if as_json:
        print_json(found)
    else:
        say(f"{found['retried']} documents are tried again.")


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}.") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"{file} is not text in UTF-8; `ai-stack import {file}` reads other formats."
        ) from None


def _path(id: str) -> str:
    return f"/documents/{quoted(id)}"


def _show_written(documents: list[Answer], verb: str, as_json: bool) -> None:
    if as_json:
        print_json({"items": documents})
        return
    for document in documents:
        say(f"{verb}  {document['id']}  {document['state']}{_why(document)}")


def _line(document: Answer) -> str:
    title = document["metadata"].get("title") or document["content"][:200]
    state = "" if document["state"] == "indexed" else f"  [{document['state']}{_why(document)}]"
    return f"{document['id']}  {shortened(str(title), 70)}{state}"


def _why(document: Answer) -> str:
    return f": {document['error']}" if document.get("error") else ""


def _error(document: Answer) -> dict[str, str]:
    return {"error": document["error"]} if "error" in document else {}
