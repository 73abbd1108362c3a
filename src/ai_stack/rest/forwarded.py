"""What trusted proxies say of a request: from whom, by which name and how safely it came.

Plain ASGI, before everything else. From anybody but a trusted proxy nothing is believed. Of a
chain of proxies only the last hop before the trusted ones counts: whatever stands to the left of
it was written by a stranger.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from ai_stack.settings.wire import Network

Headers: TypeAlias = list[tuple[bytes, bytes]]
Form: TypeAlias = Literal["x-forwarded", "forwarded"]
PAIR = re.compile(r'\s*([a-z]+)=("(?:[^"\\]|\\.)*"|[^;,"\s]+)\s*(;|,|$)', re.IGNORECASE)
ADDRESS = re.compile(r"\[([0-9a-f:.]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+)(?::\d+)?", re.IGNORECASE)
SCHEMES = ("http", "https")
MOST = 32  # hops that are looked at


@dataclass(frozen=True, slots=True)
class Hop:
    """What one proxy says of the peer that asked it; empty where it says nothing."""

    peer: str
    scheme: str = ""
    host: str = ""


class Forwarded:
    """Wraps the app; gives it scheme, host and client as the trusted proxies tell them."""

    def __init__(self, app: ASGIApp, proxies: Sequence[Network], form: Form) -> None:
        self.app = app
        self.proxies = tuple(proxies)
        self._hops = of_x_forwarded if form == "x-forwarded" else of_forwarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client is not None and self._trusts(client[0]):
            hop = self._last(list(self._hops(scope["headers"]))[-MOST:])
            if hop is not None:
                _apply(scope, hop)
        await self.app(scope, receive, send)

    def _last(self, hops: list[Hop]) -> Hop | None:
        """The right-most hop that is not a trusted proxy's own; else the first of all."""
        for hop in reversed(hops):
            if not self._trusts(hop.peer):
                return hop
        return hops[0] if hops else None

    def _trusts(self, peer: str) -> bool:
        address = _address(peer)
        return address is not None and any(address in network for network in self.proxies)


def of_x_forwarded(headers: Headers) -> Iterator[Hop]:
    """The hops of X-Forwarded-For, and what -Proto and -Host say of each.

    Where there are as many of those as hops, each has its own; else the last is for all.
    """
    peers = _listed(headers, b"x-forwarded-for")
    schemes = _listed(headers, b"x-forwarded-proto")
    hosts = _listed(headers, b"x-forwarded-host")
    for n, peer in enumerate(peers or [""]):
        yield Hop(peer, _of(schemes, n, len(peers)).lower(), _of(hosts, n, len(peers)))


def of_forwarded(headers: Headers) -> Iterator[Hop]:
    """The hops of Forwarded (RFC 7239); one that cannot be read ends the trust in all of them."""
    told = ",".join(_lines(headers, b"forwarded"))
    found, pairs, at = list[Hop](), dict[str, str](), 0
    while at < len(told):
        match = PAIR.match(told, at)
        if match is None:
            return
        pairs[match[1].lower()] = _unquoted(match[2])
        at = match.end()
        if match[3] != ";":
            found.append(_hop(pairs))
            pairs = {}
    yield from found


def _hop(pairs: dict[str, str]) -> Hop:
    return Hop(pairs.get("for", ""), pairs.get("proto", "").lower(), pairs.get("host", ""))


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _apply(scope: Scope, hop: Hop) -> None:
    if hop.scheme in SCHEMES:
        scope["scheme"] = hop.scheme
    if hop.host:
        host = (b"host", hop.host.encode("latin-1", "replace"))
        scope["headers"] = [*(h for h in scope["headers"] if h[0] != b"host"), host]
    address = _address(hop.peer)
    if address is not None:
        scope["client"] = (str(address), 0)


@lru_cache(256)
def _address(peer: str) -> IPv4Address | IPv6Address | None:
    """The address of a peer, with or without a port; None for a name or anything else."""
    match = ADDRESS.fullmatch(peer)
    try:
        address = ip_address(peer if match is None else match[1] or match[2])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _of(values: list[str], n: int, hops: int) -> str:
    if not values:
        return ""
    return values[n] if len(values) == hops else values[-1]


def _listed(headers: Headers, name: bytes) -> list[str]:
    told = ",".join(_lines(headers, name))
    return [part.strip() for part in told.split(",")] if told else []


def _lines(headers: Headers, name: bytes) -> Iterator[str]:
    return (value.decode("latin-1") for found, value in headers if found == name)
