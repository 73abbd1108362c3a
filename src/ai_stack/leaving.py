"""How a gateway begins and ends: it says when it listens, and leaves without cutting anybody off.

It knows neither the app nor the stack.
"""

import asyncio
from collections.abc import Callable
from socket import socket
from types import FrameType

import uvicorn

from ai_stack.connections import Connection
from ai_stack.models.departure import Departure

LOOK_S = 0.1


class Last(Connection):
    """A connection that is made to a server which is about to end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.leave()


class Server(uvicorn.Server):
    """Told to stop by a signal, it goes on for `drain_s`, then finishes what it has begun.

    `leaving` happens when it is told, so that whoever asks whether it is ready learns it.
    `retire` is for one that another process takes the place of: it takes no new connections, and
    each of its clients is told by an answer. To close a connection that is idle is to cut off a
    request that is on its way.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        leaving: Departure,
        drain_s: float,
        ready: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._leaving, self._drain_s, self._ready = leaving, drain_s, ready
        self._retires = False

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def retire(self) -> None:
        """Another process has taken the place of this one."""
        self._retires = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:  # told twice: it does not wait
            self._retires, self._drain_s = False, 0
        super().handle_exit(sig, frame)

    async def main_loop(self) -> None:
        await super().main_loop()
        began_at = asyncio.get_running_loop().time()
        if self._retires:
            await self._retire(began_at)
        elif self._drain_s:
            self._leaving.happen()
            await self._leave(lambda: self._drain_s > _since(began_at))

    async def _retire(self, began_at: float) -> None:
        for server in self.servers:
            server.close()
        grace_s = self.config.timeout_graceful_shutdown or 0
        connections = self.server_state.connections
        await self._leave(
            lambda: self._retires and bool(connections) and grace_s > _since(began_at)
        )
        self.config.timeout_graceful_shutdown = max(1, int(grace_s - _since(began_at)))

    async def _leave(self, goes_on: Callable[[], bool]) -> None:
        """Have each connection end with its next answer for as long as it goes on."""
        self.config.http_protocol_class = Last
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.leave()
        turns = 0
        while goes_on() and not self.force_exit:
            turns += 1
            await self.on_tick(turns)
            await asyncio.sleep(LOOK_S)


def _since(moment: float) -> float:
    return asyncio.get_running_loop().time() - moment
