"""The ports of the models' servers. A port that served one model serves no other for a while.

Whoever remembers a model's address may ask there for some time, and a llama.cpp server answers
any question, whatever model it names.
"""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ai_stack.errors import StackError

HOST = "127.0.0.1"
REMEMBERED_S = 60.0
PATIENCE_S, POLL_S = 5.0, 0.1

log = logging.getLogger("ai_stack.models")


class Ports:
    """Gives each model a port; remembered in `file`, since the host may be killed.

    `preferred` goes to the model that asks for it and, without `keep`, to whichever comes first.
    """

    def __init__(self, preferred: int, file: Path, *, keep: bool) -> None:
        self._preferred, self._file, self._keep = preferred, file, keep
        self._seen: dict[int, tuple[str, float]] = _read(file)

    async def preferred(self, model: str) -> int:
        """The port that is set; StackError when another program holds it.

        A server that was killed a moment ago may still do so, and is waited for.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_free(self._preferred):
            if time.monotonic() > deadline_s:
                raise StackError(
                    f"Port {self._preferred}, at which {model} is to be served, is taken by "
                    "another program. Stop it, or choose another port: "
                    f"AI_STACK_LLAMA_CPP_PORT={self._preferred + 1}."
                )
            await asyncio.sleep(POLL_S)
        self._remember(self._preferred, model)
        return self._preferred

    def any(self, model: str, used: Collection[int]) -> int:
        port = self._preferred
        if self._keep or port in used or not self._may_have(port, model):
            port = self._free(model)
        elif not is_free(port):
            port = self._free(model)
            log.warning(
                "port %d is taken by another program: %s gets %d", self._preferred, model, port
            )
        self._remember(port, model)
        return port

    def left(self, port: int, model: str) -> None:
        """The model is no longer served there."""
        self._remember(port, model)

    def _free(self, model: str) -> int:
        while not self._may_have(port := free_port(), model) or port == self._preferred:
            continue
        return port

    def _may_have(self, port: int, model: str) -> bool:
        before, at_s = self._seen.get(port, (model, 0.0))
        return before == model or time.time() - at_s > REMEMBERED_S

    def _remember(self, port: int, model: str) -> None:
        now_s = time.time()
        kept = {p: seen for p, seen in self._seen.items() if now_s - seen[1] <= REMEMBERED_S}
        self._seen = {**kept, port: (model, now_s)}
        with suppress(OSError):
            self._file.write_text(json.dumps(self._seen))


def _read(file: Path) -> dict[int, tuple[str, float]]:
    """What a host before this one remembered; it may have served until just now."""
    try:
        seen = json.loads(file.read_text())
        return {int(port): (str(model), time.time()) for port, (model, _) in seen.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind((HOST, 0))
        return int(trial.getsockname()[1])
