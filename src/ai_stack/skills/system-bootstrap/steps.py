"""What leads from this machine to a client that works: steps, each one verb of the program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ai_stack.skill import JSON

from .program import Ran, run, told

Name: TypeAlias = Literal["cursor", "vscodium", "continue", "aider", "llm", "sgpt", "openai"]
DOCTOR_S, UP_S, PULL_S, CONNECT_S = 60.0, 600.0, 1500.0, 400.0
DOWN = ("stack", "supervisor", "gateway")  # doctor's checks that find a stack that is down


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be there in the end."""

    clients: Sequence[Name]
    start: bool = False
    pull: str = ""
    model: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One verb, why it is needed, and what it changes; `needed` is false for what is done."""

    name: str
    arguments: tuple[str, ...]
    needed: bool
    why: str
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        return {
            "step": self.name,
            "needed": self.needed,
            "why": self.why,
            "command": told(self.arguments),
            "files": [*self.files],
        }


async def examined() -> Mapping[str, Any]:
    """What doctor says: `checks` and `findings`."""
    ran = await run(("doctor", "--json"), DOCTOR_S)
    if "findings" not in ran.output:
        why = ran.fault or "it says nothing"
        return {"checks": [], "findings": [_finding("doctor", why)]}
    return ran.output


def _finding(check: str, what: str) -> dict[str, JSON]:
    return {"check": check, "what": what, "why": "Nothing else could be looked at.", "mend": what}


async def planned(wish: Wish, health: Mapping[str, Any]) -> list[Step]:
    """The steps, in their order."""
    found: list[Step] = []
    if wish.start and not wish.url:
        down = [f for f in health["findings"] if f["check"] in DOWN]
        why = str(down[0]["what"]) if down else "The stack runs."
        found.append(Step("start", ("up", "--detach", "--json"), bool(down), why))
    if wish.pull:
        why = f"{wish.pull} is to be served; what is there already is not downloaded again."
        found.append(Step("pull", ("models", "pull", wish.pull), True, why))
    return found + [await _client(wish, client) for client in wish.clients]


async def _client(wish: Wish, client: Name) -> Step:
    """Connecting a client; it is needed unless its files name the gateway already."""
    arguments = ("connect", client, *_options(wish), "--verify", "--json")
    name = f"connect {client}"
    shown = await shown_by(wish, client)
    files = tuple(str(file["path"]) for file in shown.output.get("files", ()))
    if shown.fault:
        return Step(name, arguments, True, f"It cannot be told yet: {shown.fault}")
    missing = [file for file in files if not names(file, str(shown.output.get("address", "")))]
    if not files:
        return Step(name, arguments, True, "It has no file; the way to it is told and proved.")
    why = f"{missing[0]} does not name the gateway yet." if missing else "It is connected."
    return Step(name, arguments, bool(missing), why, files)


async def shown_by(wish: Wish, client: Name, *more: str) -> Ran:
    """What connect would write, without writing it."""
    arguments = ("connect", client, *_options(wish), "--print", *more, "--json")
    return await run(arguments, CONNECT_S)


def names(file: str, address: str) -> bool:
    """Whether a client's file names the gateway; one that cannot be read does not."""
    try:
        text = Path(file).read_text("utf-8", "replace")
    except OSError:
        return False
    return address.removeprefix("http://").removeprefix("https://").rstrip("/") in text


def _options(wish: Wish) -> list[str]:
    url = ["--url", wish.url] if wish.url else []
    return [*url, *(["--model", wish.model] if wish.model else [])]
