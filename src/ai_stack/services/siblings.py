"""The other processes of one gateway, each asked over a socket in the folder that they share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.channel import Channel, ChannelServer
from ai_stack.errors import Unavailable

ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class Siblings:
    """Those of the folder; `number` is this process's own."""

    folder: Path
    number: int

    @asynccontextmanager
    async def answering(self, tell: Callable[[], Mapping[str, float]]) -> AsyncIterator[None]:
        """Answer what this process counts to whoever of them asks, while the block lasts."""

        async def series(header: Mapping[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
            return {"series": tell()}, b""

        server = ChannelServer({"series": series})
        task = asyncio.create_task(server.serve(self._socket(self.number)))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def series(self) -> dict[str, float]:
        """What the others have counted; one that does not answer in time is left out."""
        own = self._socket(self.number)
        sockets = [path for path in sorted(self.folder.glob("*.sock")) if path != own]
        found: dict[str, float] = {}
        for told in await asyncio.gather(*map(_asked, sockets)):
            found |= told
        return found

    def _socket(self, number: int) -> Path:
        return self.folder / f"{number}.sock"


async def _asked(socket: Path) -> dict[str, float]:
    channel = Channel(socket, timeout_s=ANSWER_S)
    try:
        found: dict[str, float] = (await channel.call("series"))[0]["series"]
    except Unavailable:
        return {}
    finally:
        await channel.aclose()
    return found
