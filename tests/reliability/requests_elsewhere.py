"""Row 19: URLs that lead inside, fetched by what imports them, and never a request that does.

It runs in a process of its own, so that a faulty build can be planted under it. There the names
of `.test` resolve as an attacker has them, and one public address is a server of this machine.
python tests/reliability/requests_elsewhere.py SEED
"""
# ruff: noqa: E402 (run as a script, it finds its package first)

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

sys.path[:0] = [str(Path(__file__).parents[1])]

import httpcore

from ai_stack.errors import AIStackError
from ai_stack.services import downloads
from reliability.grounds import PLANTS, until
from reliability.verdicts import Measured, Row, Trial

PUBLIC = "93.184.216.34"
PATIENCE_S, SETTLE_S = 5.0, 30.0
HOSTS = """
127.0.0.1 127.0.0.2 127.1 127.0.1 127.255.255.254 0.0.0.0 0 2130706433 017700000001 0x7f000001
0x7f.1 0x7f.0.0.1 0177.0.0.1 0177.0.0.01 127.0.0.0x1 0x7F.0X0.0.1 00000177.1 127.000.000.001
[::1] [::] [0:0:0:0:0:0:0:1] [0000::0001] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1]
[::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b:1::7f00:1] [2002:7f00:1::] [::1%25lo]
[fe80::1%25lo] [fc00::1] [fd00:ec2::254] [ff02::1] [2001:db8::1] [100::1] [5f00::1] [3fff::1]
localhost LOCALHOST localhost. LocalHost.. ip6-localhost localhost.localdomain
10.0.0.1 172.16.0.1 192.168.0.1 100.64.0.1 169.254.169.254 169.254.170.2 192.0.0.192 198.18.0.1
224.0.0.1 255.255.255.255 240.0.0.1 192.0.2.1 2852039166 0xa9fea9fe 0251.0376.0251.0376
127.0.0.1. 127。0。0。1 127．0．0．1 １２７.0.0.1 ①②⑦.⓪.⓪.① ⓛⓞⓒⓐⓛⓗⓞⓢⓣ loc\u00adalhost
127%2e0%2e0%2e1 %31%32%37.0.0.1
inside.test zero.test both.test mapped.test nat64.test sixtofour.test link.test ten.test ula.test
compatible.test teredo.test shared.test multicast.test reserved.test rebinding.test slow.test
"""
AUTHORITIES = """
public.test@127.0.0.1:{port} 127.0.0.1:{port}@inside.test:{port} user:pw@127.0.0.1:{port}
public.test:80@127.0.0.1:{port} 127.0.0.1:{port}\\@public.test 127.0.0.1:{port}%23@inside.test
inside.test:{port}\\.public.test 127.0.0.1:{port}%2f.public.test public.test#@127.0.0.1:{port}
public.test?@127.0.0.1:{port} public.test\\@127.0.0.1:{port} @127.0.0.1:{port} :@127.0.0.1:{port}
"""
SCHEMES = """
file:///etc/passwd file://127.0.0.1:{port}/ gopher://127.0.0.1:{port}/ ftp://127.0.0.1:{port}/
dict://127.0.0.1:{port}/ unix:///run/x http+unix://%2frun%2fx/ jar:http://127.0.0.1:{port}/!/x
//127.0.0.1:{port}/ http:127.0.0.1:{port} http:/127.0.0.1:{port}/ http:///127.0.0.1:{port}/
http:\\\\127.0.0.1:{port}/ ws://127.0.0.1:{port}/ HTTP://127.0.0.1:{port}/ data:text/plain,x
javascript:alert(1) ldap://127.0.0.1:{port}/ tftp://127.0.0.1:{port}/ netdoc:///etc/passwd
"""
NAMES: dict[str, list[str]] = {
    "public.test": [PUBLIC],
    "inside.test": ["127.0.0.1"],
    "zero.test": ["0.0.0.0"],
    "both.test": [PUBLIC, "127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "sixtofour.test": ["2002:7f00:1::"],
    "compatible.test": ["::127.0.0.1"],
    "teredo.test": ["2001:0:4136:e378:8000:63bf:80ff:fffe"],
    "link.test": ["169.254.169.254"],
    "ten.test": ["10.0.0.1"],
    "ula.test": ["fd00::1"],
    "shared.test": ["100.64.0.1"],
    "multicast.test": ["224.0.0.1"],
    "reserved.test": ["240.0.0.1"],
    "slow.test": ["127.0.0.1"],
}


def direct(port: int) -> Iterator[str]:
    """URLs that lead to a port of this machine, or to another that is not public."""
    yield from (f"http://{host}:{port}/" for host in HOSTS.split())
    yield from (f"http://{place.format(port=port)}/" for place in AUTHORITIES.split())
    yield from (place.format(port=port) for place in SCHEMES.split())


def led(port: int) -> Iterator[str]:
    """The same, each behind redirects of a server that is public."""
    for number, place in enumerate(direct(port)):
        status = (301, 302, 303, 307, 308)[number % 5]
        yield f"http://public.test/{status}/{quote(place, safe='')}"
    twice = quote(f"http://public.test/307/{quote(f'http://127.0.0.1:{port}/', safe='')}", safe="")
    yield f"http://public.test/302/{twice}"
    yield f"http://public.test/302/{quote(f'//127.0.0.1:{port}/', safe='')}"
    yield f"http://rebinding.test/302/{quote('http://rebinding.test/', safe='')}"


class World:
    """Where connections go: to a server that stands for all that is public, or to the canary."""

    def __init__(self) -> None:
        self.visits, self.led_astray = 0, list[str]()
        self.asked = Counter[str]()
        self._connect = httpcore.AnyIOBackend.connect_tcp

    @asynccontextmanager
    async def standing(self) -> AsyncIterator[int]:
        """The port of the canary, while the world is as an attacker wants it."""
        canary = await everywhere(self._visited)
        self.public = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        self._resolve = loop.getaddrinfo
        loop.getaddrinfo = self._resolved  # type: ignore[method-assign]
        httpcore.AnyIOBackend.connect_tcp = self._connected()  # type: ignore[method-assign]
        async with canary, self.public:
            yield canary.sockets[0].getsockname()[1]

    async def _visited(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        _, status, place = head.split(b" ")[1].split(b"/", 2) if b"/3" in head else (b"", b"", b"")
        if status:
            told = unquote(place.decode()).encode()
            writer.write(b"HTTP/1.1 " + status + b" Go\r\nContent-Length: 0\r\nLocation: ")
            writer.write(told + b"\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
        await writer.drain()
        writer.close()

    async def _resolved(self, host: Any, port: Any, **options: Any) -> Any:
        name = str(host).lower().rstrip(".")
        self.asked[name] += 1
        if name == "rebinding.test":  # public when it is looked at, inside when it is used
            first = self.asked[name] == 1
            return [(2, 1, 6, "", (PUBLIC if first else "127.0.0.1", port))]
        if name in NAMES:
            return [(10 if ":" in a else 2, 1, 6, "", (a, port)) for a in NAMES[name]]
        return await self._resolve(host, port, **options)

    def _connected(self) -> Any:
        world, place = self, self.public.sockets[0].getsockname()[1]

        async def connect(self: Any, host: str, port: int, *more: Any) -> Any:
            if host == PUBLIC:
                return await world._connect(self, "127.0.0.1", place)
            world.led_astray.append(f"{host}:{port}")
            return await world._connect(self, host, port, 0.5)

        return connect


async def everywhere(visited: Any) -> asyncio.Server:
    """A server on every address of this machine, of both kinds, at one port."""
    both = socket.socket(socket.AF_INET6)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    both.bind(("::", 0))
    return await asyncio.start_server(visited, sock=both)


async def judge() -> dict[str, Any]:
    """Every URL fetched as an import fetches it."""
    world, faults, tried, refused = World(), list[str](), 0, 0
    async with world.standing() as port:
        assert await _fetched("http://public.test/") == b"fine", "the world is not standing"
        for url in (*direct(port), *led(port)):
            before = world.visits, len(world.led_astray)
            world.asked.clear()
            with suppress(AIStackError, TimeoutError):
                refused += 1
                await _fetched(url)
                refused -= 1
            tried += 1
            if (world.visits, len(world.led_astray)) != before:
                faults.append(f"{url} led to {world.led_astray[-1]}")
    return {"tried": tried, "refused": refused, "visits": world.visits, "faults": faults}


async def _fetched(url: str) -> bytes:
    async with (
        asyncio.timeout(PATIENCE_S),
        downloads.download(url, max_bytes=1000) as answer,
    ):
        return b"".join([piece async for piece in answer.pieces])


async def measure(trial: Trial) -> Measured:
    """In a process of its own, then by imports and by chat on a gateway that runs."""
    plant = trial.plant or "none"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PLANTS), plant, "requests_elsewhere"), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    found = json.loads(printed)
    trial.log.write("fetched", **found)
    asked, visits = (0, 0) if trial.plant else await _by_gateway(trial)
    faults = [*found["faults"][:8], *(["the canary was visited by a gateway"] if visits else [])]
    figures = {"fetched": found["tried"], "refused": found["refused"], "by a gateway": asked}
    return Measured({**figures, "visits": found["visits"] + visits}, tuple(faults))


async def _by_gateway(trial: Trial) -> tuple[int, int]:
    """How many URLs a gateway and its worker were given, and how often they came."""
    visits: list[object] = []
    canary = await everywhere(lambda r, w: (visits.append(r), w.close())[1])
    port, client = canary.sockets[0].getsockname()[1], trial.ground.client()
    runs, asked = [], 0
    async with canary:
        for url in direct(port):
            if ".test" in url:
                continue  # there nobody resolves it
            answer = await client.request("POST", "/documents/import", {"url": url})
            runs += [answer.json()["id"]] if answer.ok else []
            asked += 1
        for path, body in pictures(f"http://127.0.0.1:{port}/x.png"):
            await client.request("POST", path, body)
            asked += 1
        await _settled(trial, client, runs)
    trial.log.write("gateway", asked=asked, runs=len(runs), visits=len(visits))
    client.close()
    return asked, len(visits)


async def _settled(trial: Trial, client: Any, runs: list[str]) -> None:
    """Wait until each run was tried, and leave none behind."""
    ends = time.monotonic() + SETTLE_S
    for id in runs:

        async def tried(id: str = id) -> bool:
            run = (await client.request("GET", f"/runs/{id}")).json()
            waiting = run["status"] == "queued" and "waiting" in json.dumps(run)
            return run["status"] in ("failed", "succeeded", "cancelled") or waiting

        with suppress(TimeoutError):
            await until(tried, max(ends - time.monotonic(), 0.2))
        await client.request("DELETE", f"/runs/{id}")


def pictures(url: str) -> Iterator[tuple[str, Any]]:
    """Messages with a picture that lies elsewhere, in each dialect."""
    chat = {"type": "image_url", "image_url": {"url": url}}
    item = {"type": "input_image", "image_url": url}
    block = {"type": "image", "source": {"type": "url", "url": url}}
    for path, part in (("/v1/chat/completions", chat), ("/v1/messages", block)):
        yield path, {"max_tokens": 1, "messages": [{"role": "user", "content": [part]}]}
    yield "/v1/responses", {"input": [{"role": "user", "content": [item]}]}


ROWS = (
    Row(
        19,
        "URLs that lead inside: encodings, redirects, names that change",
        "0 visits to the canary, 0 connections to what is not public",
        measure,
        ("trusting-fetch", "looking-twice"),
        calm=True,
    ),
)

if __name__ == "__main__":
    print(json.dumps(asyncio.run(judge())))
