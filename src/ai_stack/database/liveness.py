"""Whether PostgreSQL says anything: one that stands still, as a hung machine does, says nothing.

A server that ends or refuses says so itself; the driver raises that, and nothing is done here.
"""

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any, TypeAlias
from weakref import WeakSet

import psycopg
from psycopg.rows import TupleRow

from ai_stack.errors import DatabaseUnavailable

EVERY_S, PATIENCE_S = 2.0, 6.0
TURNS = 6

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

log = logging.getLogger(__name__)


class Liveness:
    """Asks on a connection of its own, and cuts every connection when no answer comes in time.

    A statement that takes long does not matter to it: other connections are answered meanwhile.
    Who waits on a cut connection gets the driver's OperationalError at once. To cancel him would
    take ten seconds, since the driver asks the server to cancel and waits for that.
    """

    def __init__(self, url: str, options: str) -> None:
        self.every_s, self.patience_s = EVERY_S, PATIENCE_S
        self.silent = False
        self._url = url
        self._options = options
        self._connections = WeakSet[Connection]()
        self._own: Connection | None = None
        self._watching: asyncio.Task[None] | None = None

    def add(self, connection: Connection) -> None:
        """A connection to cut when the server falls silent."""
        self._connections.add(connection)

    def check(self) -> None:
        """Raise DatabaseUnavailable while the server is silent."""
        if self.silent:
            raise DatabaseUnavailable

    async def connect(self, **arguments: Any) -> Connection:
        """A connection to cut; raises the driver's OperationalError while the server is silent."""
        if self.silent:
            raise psycopg.OperationalError
        connection = await psycopg.AsyncConnection.connect(self._url, **arguments)
        self.add(connection)
        return connection

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._leave()

    async def _leave(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    async def _watch(self) -> None:
        while True:
            asked = asyncio.create_task(self._ask())
            try:
                self._judge(await self._ended(asked))
            finally:
                await self._end(asked)
            if not self.silent:
                await asyncio.sleep(self.every_s)

    async def _ask(self) -> None:
        """Return when anything is heard, if only that the server takes no connections now."""
        with suppress(psycopg.Error):
            if self._own is None:
                self._own = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, options=self._options
                )
                self.add(self._own)
            await self._own.execute("SELECT 1")
            return
        await self._leave()

    async def _ended(self, asked: asyncio.Task[None]) -> bool:
        """Wait in turns: what this process stood still itself counts as one of them at most."""
        for _ in range(TURNS):
            await asyncio.wait({asked}, timeout=self.patience_s / TURNS)
            if asked.done():
                return True
        return False

    def _judge(self, heard: bool) -> None:
        if heard and self.silent:
            log.warning("PostgreSQL answers again")
        elif not heard and not self.silent:
            log.error("PostgreSQL has not answered for %g s: cut off", self.patience_s)
        self.silent = not heard

    async def _end(self, asked: asyncio.Task[None]) -> None:
        """Leave nobody waiting for a server that is silent, or is not asked any more."""
        if not asked.done():
            for connection in list(self._connections):
                _cut(connection)
            if self._own is None:  # still connecting, and nothing to cut
                asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


def _cut(connection: Connection) -> None:
    """Shut the socket and leave it to its owner: a descriptor closed here could be another's."""
    with suppress(psycopg.Error, OSError):  # it is closed already
        line = socket.socket(fileno=connection.pgconn.socket)
        try:
            line.shutdown(socket.SHUT_RDWR)
        finally:
            line.detach()
