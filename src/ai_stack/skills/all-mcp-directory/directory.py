"""The directory: well-known MCP servers, what each does and how it is started.

Facts only, kept by hand in directory.json; it knows nothing of what is installed or running.
"""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, TypeAdapter

from ai_stack.skill import JSON, SkillFailed

Start: TypeAlias = Literal["npx", "uvx", "docker", "url"]
WORD = re.compile(r"[a-z0-9]+")
VALUE = "<your value>"
NAMED, TAGGED, SAID = 6, 3, 1
FEWEST_LETTERS = 3


class EditorEntry(BaseModel):
    """What an editor's file has for a server, without what is secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str = ""
    args: tuple[str, ...] = ()
    url: str = ""


class Known(BaseModel):
    """One server; an empty licence is one that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    does: str
    start: Start
    entry: EditorEntry
    env: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    oauth: bool = False
    licence: str = ""
    homepage: str = ""
    tags: tuple[str, ...] = ()

    def brief(self) -> dict[str, JSON]:
        """As a search shows it."""
        return {"id": self.id, "does": self.does, "start": self.start, "tags": [*self.tags]}

    def whole(self) -> dict[str, JSON]:
        """All that is known, and the entry to write into an editor's file."""
        needs: dict[str, JSON] = {"env": [*self.env], "headers": [*self.headers]}
        return {
            **self.brief(), "licence": self.licence or None, "homepage": self.homepage or None,
            "needs": {**needs, "oauth": self.oauth},
            "entry": {"mcpServers": {self.id: self._entry()}},
        }  # fmt: skip

    def _entry(self) -> JSON:
        found: dict[str, JSON] = dict(self.entry.model_dump(mode="json", exclude_defaults=True))
        for key, names in (("env", self.env), ("headers", self.headers)):
            if names:
                found[key] = dict.fromkeys(names, VALUE)
        return found


@cache
def directory() -> Sequence[Known]:
    """All servers, by id."""
    text = Path(__file__).with_name("directory.json").read_text("utf-8")
    return TypeAdapter(tuple[Known, ...]).validate_python(json.loads(text))


def known(id: str) -> Known:
    """One server; SkillFailed names those that are like it."""
    for server in directory():
        if server.id == id.strip().lower():
            return server
    like = ", ".join(s.id for s in found(id, None)[:5]) or "none: search for what it should do"
    raise SkillFailed(f"The directory has no {id[:64]!r}. Like it: {like}.")


def found(query: str, start: Start | None) -> list[Known]:
    """Servers that fit a query, best first; all of them for none."""
    words = WORD.findall(query.lower())
    scored = [(_score(server, words), server) for server in directory()]
    fitting = [(n, s) for n, s in scored if (n or not words) and start in (None, s.start)]
    return [server for _, server in sorted(fitting, key=lambda pair: (-pair[0], pair[1].id))]


def _score(server: Known, words: Sequence[str]) -> int:
    """More for a name than for a tag, for a tag than for a description; more for more words."""
    places = (
        (NAMED, WORD.findall(server.id)),
        (TAGGED, WORD.findall(" ".join(server.tags))),
        (SAID, WORD.findall(server.does.lower())),
    )
    return sum(
        max((weight for weight, text in places if _has(text, word)), default=0) for word in words
    )


def _has(text: Sequence[str], word: str) -> bool:
    """Whether a word is there, or is the beginning of one, or has one as its beginning."""
    if len(word) < FEWEST_LETTERS:
        return word in text
    return any(t.startswith(word) or (len(t) > FEWEST_LETTERS and word.startswith(t)) for t in text)


def package_of(server: Known) -> str:
    """What tells a server apart in somebody's file: its package, image or address."""
    if server.entry.url:
        return server.entry.url.rstrip("/")
    plain = [
        a for a in server.entry.args if not a.startswith("-") and a not in ("run", *server.env)
    ]
    return _unversioned(plain[0])


def recognised(args: Sequence[str], url: str) -> str:
    """The id of the directory's server that an entry starts or reaches, or nothing."""
    said = {_unversioned(argument) for argument in args} | {url.rstrip("/")} - {""}
    return next((server.id for server in directory() if package_of(server) in said), "")


def _unversioned(package: str) -> str:
    head, at, _ = package.rpartition("@")
    return head if at and head else package
