"""What `doctor` looks at: each check takes what is known of the stack and yields what is wrong.

No check starts or changes anything, and none may fail because something else is down.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from ai_stack.cli.clients import reachable
from ai_stack.cli.clients.served import Served, access, ask, direct
from ai_stack.errors import Forbidden, SettingsError, StackError, Unauthenticated, Unavailable
from ai_stack.settings import SUPERVISED, Settings, load_settings, read_settings
from ai_stack.supervisor import StackStatus, control, folder


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, why it matters, and what mends it: a command where there is one."""

    check: str
    what: str
    why: str
    mend: str


@dataclass(slots=True)
class Stack:
    """What could be learned of a stack; what is down is None.

    `refusal` is why the gateway does not tell what it serves; `asks` is whether it wants keys.
    """

    settings: Settings
    wrong_settings: list[SettingsError] = field(default_factory=list)
    supervisor: int | None = None
    status: StackStatus | None = None
    health: dict[str, Any] | None = None
    served: Served | None = None
    refusal: str = ""
    asks: bool = False
    online: bool = False

    @property
    def url(self) -> str:
        return reachable(self.settings.gateway_url)

    @property
    def runs(self) -> bool:
        """Whether a supervisor holds the data folder."""
        return self.supervisor is not None


Check: TypeAlias = Callable[[Stack], Iterator[Finding]]


def examine(online: bool) -> Stack:
    """Ask the supervisor and the gateway, each once."""
    settings, wrong = _settings()
    stack = Stack(settings, wrong, online=online)
    stack.supervisor = _holder(settings.data_dir)
    if stack.runs:
        stack.status = _status(settings)
    stack.health = _health(stack.url)
    if stack.health is not None:
        _look(stack)
    return stack


def _settings() -> tuple[Settings, list[SettingsError]]:
    """The settings, with what cannot be used left at its default."""
    wrong: list[SettingsError] = []
    while True:
        try:
            return read_settings(without=[name for e in wrong for name in e.fields])[0], wrong
        except SettingsError as error:
            wrong.append(error)
            if not error.fields:  # the file itself: go on without it, and without all else
                return load_settings({"HOME": str(Path.home()), SUPERVISED: "1"}), wrong


def _holder(data: Path) -> int | None:
    try:
        return folder.holder(data)
    except OSError:
        return None


def _status(settings: Settings) -> StackStatus | None:
    try:
        return asyncio.run(control.ask_status(settings.runtime))
    except Unavailable:
        return None


def _health(url: str) -> dict[str, Any] | None:
    try:
        with direct(url) as client:
            found = client.get(f"{url}/health").json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return found if isinstance(found, dict) and "services" in found else None


def _look(stack: Stack) -> None:
    """See what the gateway serves, as far as it tells this one."""
    with suppress(StackError):
        try:
            stack.asks = access(stack.url).required
            stack.served = ask(stack.url)
        except (Unauthenticated, Forbidden) as error:
            stack.refusal = error.message
