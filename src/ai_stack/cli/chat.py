"""`chat`: one question and its answer, or a conversation."""

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from ai_stack.cli.client import Answer, Gateway, connect, quoted
from ai_stack.cli.options import AsJson, FilterText, print_json, printable, read_filter
from ai_stack.cli.search import excerpt
from ai_stack.errors import AIStackError

INTERRUPTED = 130
NEW = "new"
HELP = """\
/model [NAME]        show or change the model
/documents [on|off]  answer from the documents, or from the model alone
/reset               forget what was said
/help                this
/quit                leave, as Ctrl-D does; Ctrl-C stops an answer"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass
class Talk:
    """A conversation: how it is asked for, and what was said, unless a session keeps that."""

    gateway: Gateway
    options: dict[str, Any]
    documents: dict[str, Any] | None = None
    system: str | None = None
    session: str | None = None
    messages: list[Answer] = field(default_factory=list)

    @property
    def path(self) -> str:
        if self.session is None:
            return "/inference/generate"
        return f"/sessions/{quoted(self.session)}/messages"

    def body(self, text: str) -> dict[str, Any]:
        asked: dict[str, Any] = dict(self.options)
        if self.documents is not None:
            asked["documents"] = self.documents
        if self.session is not None:
            return {**asked, "content": text}
        head = [] if self.system is None else [{"role": "system", "content": self.system}]
        return {**asked, "messages": [*head, *self.messages, _user(text)]}

    def ask(self, text: str) -> Answer:
        """The whole answer; drawn as a stream, so that its length has no time limit here."""
        said: dict[str, str] = {"text": ""}
        last: Answer = {}
        for last in self.stream(text):
            for name, key in (("delta", "text"), ("reasoning", "reasoning")):
                if name in last:
                    said[key] = said.get(key, "") + last[name]
        return {**said, **last}

    def stream(self, text: str) -> Generator[Answer, None, None]:
        """The events of an answer; it is remembered when it has come whole."""
        said: list[str] = []
        with closing(self.gateway.chunks(self.path, {**self.body(text), "stream": True})) as chunks:
            for event in chunks:
                said.append(event.get("delta", ""))
                yield event
        if self.session is None:
            self.messages += [_user(text), {"role": "assistant", "content": "".join(said)}]


@app.command()
def chat(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]...", help="The question; - reads it from stdin."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Who answers.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    documents: Annotated[
        bool, typer.Option("--documents", "-d", help="Answer from the documents, and cite them.")
    ] = False,
    filter: FilterText = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=100, help="Documents to look into.")
    ] = 5,
    session: Annotated[
        str | None, typer.Option(help="Continue a session that the gateway keeps; new begins one.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer, in tokens.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0: no dice.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask WORDS, or what comes on stdin; without either, talk until Ctrl-D."""
    found = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
    options = {name: value for name, value in found.items() if value is not None}
    wanted = read_documents(documents, filter, limit)
    text = _question(words or [])
    if text is None and as_json:
        raise typer.BadParameter("--json needs a question.")
    with connect() as gateway:
        talk = Talk(gateway, options, wanted, system)
        talk.session = _session(gateway, session, system)
        if text is None:
            _converse(talk, {"filter": read_filter(filter), "limit": limit})
        elif as_json:
            print_json(talk.ask(text))
        else:
            _once(talk, text)


def read_documents(wanted: bool, filter: str | None, limit: int) -> dict[str, Any] | None:
    """Search options, None for an answer without documents; a filter asks for them too."""
    if not wanted and filter is None:
        return None
    return _search({"filter": read_filter(filter), "limit": limit})


def _search(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _question(words: list[str]) -> str | None:
    """What is asked once, None for a conversation."""
    if words and words != ["-"]:
        text, place = " ".join(words), "in WORDS"
    elif words or not sys.stdin.isatty():
        text, place = sys.stdin.read().strip(), "on stdin"
    else:
        return None
    if not text.strip():
        raise typer.BadParameter(f"There is no question {place}.")
    return text


def _session(gateway: Gateway, id: str | None, system: str | None) -> str | None:
    if id != NEW:
        if id is not None and system is not None:
            raise typer.BadParameter("A session that is continued has its own system's text.")
        return id
    made = gateway.ask("POST", "/sessions", json={"system": system})
    say_aside(f"session {made['id']}")
    return str(made["id"])


def _once(talk: Talk, text: str) -> None:
    try:
        _answer(talk, text)
    except KeyboardInterrupt:
        print()
        raise typer.Exit(INTERRUPTED) from None


def _answer(talk: Talk, text: str) -> None:
    """Print an answer as it comes, then what it cites and what was left out."""
    last: Answer = {}
    with closing(talk.stream(text)) as events:
        for event in events:
            print(printable(event.get("delta", "")), end="", flush=True)
            last = event
    print(flush=True)
    for line in notes(last):
        say_aside(line)


def notes(ending: Answer) -> Iterator[str]:
    """What the end of an answer tells besides: sources, and what is missing."""
    for cited in ending.get("citations", ()):
        place = f"characters {cited['start']} to {cited['end']}"
        yield f"[{cited['number']}] {cited['document_id']}, {place}"
        yield f"    {excerpt(cited['text'], (), 160)}"
    passages = ending.get("passages")
    if passages is not None and not passages["found"]:
        yield "Nothing was found in the documents."
    elif passages is not None and not ending["citations"]:
        yield f"No source is cited; {passages['shown']} of {passages['found']} passages were read."
    if "degraded" in ending:
        yield str(ending["degraded"])
    session = ending.get("session", {})
    if session.get("left_out"):
        yield f"The {session['left_out']} oldest turns did not fit the model's context."
    if session and not session["kept"]:
        yield "This turn could not be kept in the session."
    if ending.get("finish_reason") == "length":
        yield "The answer was cut off at its longest."


def _converse(talk: Talk, search: dict[str, Any]) -> None:
    import readline  # noqa: F401, PLC0415 (gives input() its line editing)

    say_aside("/help tells the commands; Ctrl-D leaves.")
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        if text == "/quit":
            return
        if text:
            _turn(talk, text, search)


def _turn(talk: Talk, text: str, search: dict[str, Any]) -> None:
    """One line of a conversation, which outlives its failures."""
    try:
        if text.startswith("/"):
            say_aside(command(talk, text, search))
        else:
            _answer(talk, text)
    except KeyboardInterrupt:
        print()
        say_aside("Stopped; this turn is forgotten.")
    except AIStackError as error:
        say_aside(error.message)


def command(talk: Talk, line: str, search: dict[str, Any]) -> str:
    """Do what a line that begins with / says; what came of it."""
    name, _, value = line.partition(" ")
    does: Callable[[Talk, str, dict[str, Any]], str] | None = COMMANDS.get(name)
    if does is None:
        return f"There is no {name}.\n{HELP}"
    return does(talk, value.strip(), search)


def _model(talk: Talk, value: str, search: dict[str, Any]) -> str:
    if value:
        talk.options["model"] = value
    return f"model: {talk.options.get('model', 'the default one')}"


def _documents(talk: Talk, value: str, search: dict[str, Any]) -> str:
    if value not in ("", "on", "off"):
        return "/documents takes on or off."
    if value:
        talk.documents = _search(search) if value == "on" else None
    return f"documents: {'off' if talk.documents is None else 'on'}"


def _reset(talk: Talk, value: str, search: dict[str, Any]) -> str:
    if talk.session is not None:
        made = talk.gateway.ask("POST", "/sessions", json={"system": talk.system})
        talk.session = str(made["id"])
        return f"session {talk.session}"
    talk.messages.clear()
    return "What was said is forgotten."


COMMANDS: dict[str, Callable[[Talk, str, dict[str, Any]], str]] = {
    "/model": _model,
    "/documents": _documents,
    "/reset": _reset,
    "/help": lambda talk, value, search: HELP,
}


def say_aside(text: str) -> None:
    """Tell a person what is no part of the answer; the answer alone goes to stdout."""
    print(printable(text), file=sys.stderr, flush=True)


def _user(text: str) -> Answer:
    return {"role": "user", "content": text}
