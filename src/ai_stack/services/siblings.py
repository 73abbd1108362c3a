"""The other processes of one gateway, each asked over a socket in the folder that they share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.alongside import alongside
from ai_stack.channel import Channel, ChannelServer, Handler
from ai_stack.errors import Unavailable

ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class Siblings:
    """Those of the folder; `number` is this process's own."""

    folder: Path
    number: int

    @asynccontextmanager
    async def answering(self, told: Mapping[str, Callable[[], object]]) -> AsyncIterator[None]:
        """Answer what this process knows, by its name, to whoever of them asks."""
        server = ChannelServer({name: _answering(tell) for name, tell in told.items()})
        async with alongside(server.serve(self._socket(self.number))):
            yield

    async def ask(self, name: str) -> list[Any]:
        """What each of the others knows; one that does not answer in time is left out."""
        own = self._socket(self.number)
        sockets = [path for path in sorted(self.folder.glob("*.sock")) if path != own]
        found = await asyncio.gather(*(_asked(path, name) for path in sockets))
        return [one for one in found if one is not None]

    def _socket(self, number: int) -> Path:
        return self.folder / f"{number}.sock"


def _answering(tell: Callable[[], object]) -> Handler:
    async def answer(header: Mapping[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        return {"told": tell()}, b""

    return answer


async def _asked(socket: Path, name: str) -> Any:
    channel = Channel(socket, timeout_s=ANSWER_S)
    try:
        return (await channel.call(name))[0]["told"]
    except Unavailable:
        return None
    finally:
        await channel.aclose()
