"""One connection to Redis that all callers share; it knows the protocol, and no command.

Commands go out as they come and are answered in their order, so that no caller waits for
another's round trip. A server that does not answer in time is left alone for a while: a dead
cache costs one short wait now and then, not one for each request.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeAlias, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

import hiredis

from ai_stack.addresses import Addresses
from ai_stack.errors import SettingsError

TIMEOUT_S, LOOK_S, PAUSE_S = 0.25, 0.05, 0.5
LINGER_S = 0.002  # what nobody waits for is sent with what somebody does, at the latest then
MAX_WAITING = 20_000
SENTINEL_PORT = 26379
SERVERS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")  # schemes of URLs

Part: TypeAlias = bytes | str | int
Answer: TypeAlias = bytes | int | list["Answer"] | None


class Down(Exception):
    """The server does not answer, or answers with an error."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how to begin with it, from redis://, rediss:// or unix://.

    From redis+sentinel://host:port,host:port/name it is the `master` of this name, wherever the
    sentinels say that it is now.
    """

    path: str | None
    host: str
    port: int
    tls: bool
    opening: tuple[tuple[Part, ...], ...]
    sentinels: tuple["Address", ...] = ()
    master: str = ""

    @classmethod
    def read(cls, url: str) -> "Address":
        parts, asked = urlsplit(url), parse_qs(urlsplit(url).query)
        if parts.scheme.endswith("+sentinel"):
            return cls._watched(url)
        is_local = parts.scheme == "unix"
        number = asked.get("db", ["" if is_local else parts.path.strip("/")])[0]
        password = unquote(parts.password or "") or asked.get("password", [""])[0]
        user = (unquote(parts.username),) if parts.username else ()
        opening: list[tuple[Part, ...]] = [("AUTH", *user, password)] if password else []
        if number.isdigit() and int(number):
            opening.append(("SELECT", number))
        path = unquote(parts.path) if is_local else None
        host, port = parts.hostname or "127.0.0.1", parts.port or 6379
        return cls(path, host, port, parts.scheme == "rediss", tuple(opening))

    @classmethod
    def _watched(cls, url: str) -> "Address":
        """SettingsError for a URL that names no master."""
        parts = urlsplit(url)
        scheme = parts.scheme.removesuffix("+sentinel")
        login, at, places = parts.netloc.rpartition("@")
        master, _, number = parts.path.strip("/").partition("/")
        if not master or not places:
            raise SettingsError(f"{scheme}+sentinel://host:port,host:port/name needs the name.")
        server = cls.read(f"{scheme}://{login}{at}master/{number}")
        secret = parse_qs(parts.query).get("sentinel_password", [""])[0]
        before = f":{quote(secret, safe='')}@" if secret else ""
        asked = (f"{scheme}://{before}{place}" for place in places.split(","))
        known = tuple(replace(cls.read(one), port=_port(one)) for one in asked)
        return replace(server, sentinels=known, master=master)


class Pipeline:
    """A client that connects when it is first used and again after a failure."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None
        self._paused_until = float("-inf")
        self._places = _Places()

    async def call(self, *command: Part) -> Answer:
        """The answer to one command; Down for a server that cannot give one now."""
        link = self._link
        if link is None or link.ended:
            link = await self._connected()
        answer = await link.send(command)
        if isinstance(answer, hiredis.HiredisError):
            raise link.refused(answer)
        return cast(Answer, answer)

    async def together(self, commands: Sequence[tuple[Part, ...]]) -> list[Answer]:
        """The answers to several commands that go out as one; Down when any of them fails."""
        if not commands:
            return []
        link = self._link
        if link is None or link.ended:
            link = await self._connected()
        answers = await link.send_all(commands)
        for answer in answers:
            if isinstance(answer, hiredis.HiredisError):
                raise link.refused(answer)
        return cast(list[Answer], answers)

    async def post(self, *command: Part) -> None:
        """Send a command whose answer nobody waits for; it keeps its place in the order."""
        link = self._link
        if link is None or link.ended:
            link = await self._connected()
        link.post(command)

    async def _connected(self) -> "_Link":
        if asyncio.get_running_loop().time() < self._paused_until:
            raise Down
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._settle)
        return await asyncio.shield(self._connecting)

    def _settle(self, task: "asyncio.Task[_Link]") -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is not None:
            self._rest()

    def _rest(self) -> None:
        self._paused_until = asyncio.get_running_loop().time() + PAUSE_S

    async def _connect(self) -> "_Link":
        try:
            async with asyncio.timeout(TIMEOUT_S):
                address = self._address
                found = await self._found() if address.sentinels else address
                self._link = link = await self._opened(found)
                if address.sentinels:
                    await _check_master(link)
                return link
        except (OSError, TimeoutError) as error:
            raise Down from error

    async def _found(self) -> Address:
        """Where the master is, by the first sentinel that knows: all are asked at once."""
        asked = [asyncio.create_task(self._told(one)) for one in self._address.sentinels]
        try:
            for told in asyncio.as_completed(asked):
                with suppress(OSError, Down):
                    host, port = await told
                    return replace(self._address, host=host, port=port)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise Down

    async def _told(self, sentinel: Address) -> tuple[str, int]:
        link = await self._opened(sentinel)
        try:
            asked = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.master)
            found = await link.send(asked)
        finally:
            link.end()
        if not isinstance(found, list) or len(found) != 2:
            raise Down
        return found[0].decode(), int(found[1])

    async def _opened(self, address: Address) -> "_Link":
        link = await self._reached(address)
        for command in address.opening:
            if isinstance(await link.send(command), hiredis.HiredisError):
                link.end()
                raise Down
        return link

    async def _reached(self, address: Address) -> "_Link":
        if address.path is not None:
            loop = asyncio.get_running_loop()
            return (await loop.create_unix_connection(self._new_link, address.path))[1]
        return await self._places[address.host].met(partial(self._dialled, address))

    async def _dialled(self, address: Address, place: str) -> "_Link":
        loop = asyncio.get_running_loop()
        tls = ssl.create_default_context() if address.tls else None
        name = address.host if address.tls else None
        return (
            await loop.create_connection(
                self._new_link, place, address.port, ssl=tls, server_hostname=name
            )
        )[1]

    def _new_link(self) -> "_Link":
        return _Link(self._rest)

    async def aclose(self) -> None:
        for places in self._places.values():
            places.close()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.end()


class _Places(dict[str, Addresses]):
    """Where each host is that was asked: the server's, or the sentinels' and their master's."""

    def __missing__(self, host: str) -> Addresses:
        found = self[host] = Addresses(host)
        return found


class _Waiter(Protocol):
    """What takes one answer, as a future does."""

    def done(self) -> bool: ...
    def set_result(self, result: object, /) -> None: ...
    def set_exception(self, exception: Exception, /) -> None: ...


@dataclass(slots=True)
class _Batch:
    """Takes the answers to several commands, and gives them as one."""

    whole: "asyncio.Future[list[object]]"
    expected: int
    answers: list[object] = field(default_factory=list)

    def done(self) -> bool:
        return self.whole.done()

    def set_result(self, result: object, /) -> None:
        self.answers.append(result)
        if len(self.answers) == self.expected:
            self.whole.set_result(self.answers)

    def set_exception(self, exception: Exception, /) -> None:
        self.whole.set_exception(exception)


class _Link(asyncio.Protocol):
    """One connection's life; `late` is called when it ends because the server was too slow."""

    def __init__(self, late: Callable[[], None]) -> None:
        self.ended = False
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader()
        self._waiting = deque[tuple[_Waiter | None, float]]()
        self._unsent: list[bytes] = []
        self._is_due = self._lingers = False
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, command: tuple[Part, ...]) -> "asyncio.Future[object]":
        answer: asyncio.Future[object] = self._loop.create_future()
        try:
            self._put(command, answer)
        except Down as error:
            answer.set_exception(error)
            return answer
        self._hurry()
        return answer

    def send_all(self, commands: Sequence[tuple[Part, ...]]) -> "asyncio.Future[list[object]]":
        whole: asyncio.Future[list[object]] = self._loop.create_future()
        batch = _Batch(whole, len(commands))
        try:
            for command in commands:
                self._put(command, batch)
        except Down as error:
            whole.set_exception(error)
            return whole
        self._hurry()
        return whole

    def _hurry(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._flush)

    def post(self, command: tuple[Part, ...]) -> None:
        self._put(command, None)
        if not self._is_due and not self._lingers:
            self._lingers = True
            self._loop.call_later(LINGER_S, self._linger)

    def _linger(self) -> None:
        self._lingers = False
        self._flush()

    def _put(self, command: tuple[Part, ...], answer: _Waiter | None) -> None:
        if self.ended or self._transport is None or len(self._waiting) >= MAX_WAITING:
            raise Down
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]
        self._waiting.append((answer, self._loop.time()))
        self._unsent.append(packed)
        if self._watch is None:
            self._watch = self._loop.call_later(LOOK_S, self._look)

    def _flush(self) -> None:
        """Send what this turn of the loop has brought, in one system call."""
        self._is_due = False
        unsent, self._unsent = self._unsent, []
        if unsent and not self.ended and self._transport is not None:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def _look(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        if self._loop.time() - self._waiting[0][1] > TIMEOUT_S:
            self._late()
            self.end()
        else:
            self._watch = self._loop.call_later(LOOK_S, self._look)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not False:
                answer, _ = self._waiting.popleft()
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.end()

    def refused(self, error: hiredis.HiredisError) -> Down:
        """What an error is told as; a server that has become a replica is asked no more."""
        if str(error).startswith("READONLY"):
            self.end()
        return Down(str(error))

    def connection_lost(self, error: Exception | None) -> None:
        self.end()

    def end(self) -> None:
        """Close; whoever waits gets Down."""
        self.ended = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            answer, _ = self._waiting.popleft()
            if answer is not None and not answer.done():
                answer.set_exception(Down())


async def _check_master(link: _Link) -> None:
    """Sentinels may say what was; only a master takes writes."""
    role = await link.send(("ROLE",))
    if not isinstance(role, list) or role[0] != b"master":
        link.end()
        raise Down


def _port(url: str) -> int:
    return urlsplit(url).port or SENTINEL_PORT
