"""The clients that `connect` points at the gateway: what one is, and which there are.

A client is a file of this package. It says which texts its settings files should become, what is
left for a person to do, where a file points at this moment, and which of its own commands prove
that it works. It neither writes files nor asks the gateway.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

NAMES = {
    "cursor": "cursor",
    "vscodium": "vscodium",
    "continue": "continue_dev",
    "aider": "aider",
    "llm": "llm",
    "sgpt": "sgpt",
    "openai": "openai",
}
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104
KEY = "local"  # where the gateway asks for no key: clients refuse to start without one
CHAT_SCOPES = ("read", "infer")
TOOL_SCOPES = ("read", "write", "infer", "skills")

Capability = Literal["chat", "stream", "tools", "embeddings"]
CAPABILITIES: tuple[Capability, ...] = ("chat", "stream", "tools", "embeddings")


@dataclass(frozen=True, slots=True)
class Target:
    """What a client is pointed at: a gateway and one of its models; lengths in tokens.

    `key` is what it shows there, None where it need not or has none.
    """

    url: str
    model: str
    context_length: int | None = None
    embedding_model: str | None = None
    key: str | None = field(default=None, repr=False)

    @property
    def api(self) -> str:
        """The base of OpenAI's API."""
        return f"{self.url}/v1"

    @property
    def mcp(self) -> str:
        return f"{self.url}/mcp"

    @property
    def headers(self) -> Mapping[str, Mapping[str, str]]:
        """What the entry of a server of tools has beside its address."""
        return {"headers": {"Authorization": f"Bearer {self.key}"}} if self.key else {}

    def entries(self, name: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The entry of the key as one to set, and as one to add where there is none."""
        return ({name: self.key}, {}) if self.key else ({}, {name: KEY})


@dataclass(frozen=True, slots=True)
class Places:
    """Where clients look for their files; `project` when one folder is meant and not the user."""

    home: Path
    config: Path
    llm: Path
    project: Path | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """One file and what its text should become; the text of a file that is not there is empty.

    A `secret` one has a key in it.
    """

    path: Path
    change: Callable[[str], str]
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a file points: an address, and a model and a key where it names them."""

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """A command of the client itself that proves one capability by its exit status.

    `said` must be in what it prints. It runs in an empty folder, without a terminal, and with
    `environment` beside what is set.
    """

    command: Sequence[str]
    said: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Client(Protocol):
    """A program that people use and that can be pointed at the gateway.

    `scopes` are what a key that is made for it may do.
    """

    projects: bool
    scopes: Sequence[str]

    def edits(self, target: Target, places: Places) -> Sequence[Edit]:
        """The files that point it there; changing a text twice is the same as once."""

    def steps(self, target: Target, places: Places) -> Sequence[str]:
        """What a person does next, one line each."""

    def aims(self, path: Path, text: str) -> Sequence[Aim]:
        """Where one of its files points; raises Malformed."""

    def proofs(self, target: Target, places: Places) -> Mapping[Capability, Proof]:
        """What it can prove by itself; empty where it is not installed."""


def authorization(server: Mapping[str, object]) -> str:
    """What the entry of a server of tools shows there."""
    headers = server.get("headers")
    return str(headers.get("Authorization", KEY)) if isinstance(headers, Mapping) else KEY


def find_client(name: str) -> Client:
    """The client of one of NAMES."""
    client: Client = import_module(f"{__name__}.{NAMES[name]}").CLIENT
    return client


def reachable(url: str) -> str:
    """A gateway's address for a client: one that listens everywhere is asked on loopback."""
    for listening, near in EVERYWHERE.items():
        url = url.replace(f"//{listening}:", f"//{near}:")
    return url.rstrip("/")


def gateway_of(url: str) -> str:
    """The gateway that an address of a client belongs to: `http://host:8091/v1/` → without path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme else url
