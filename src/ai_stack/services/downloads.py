"""Downloads of what a caller names: http and https, from public addresses only.

The address is checked where the connection is made, at every hop, so that neither a redirect
nor a name that changes its address leads anywhere else.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from ai_stack.errors import InvalidRequest, NotFound, TooLarge, Unavailable, Unsupported

HOPS = 5
CONNECT_S, READ_S, WHOLE_S = 10.0, 30.0, 300.0
REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429, 500, 502, 503, 504)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Registered for other uses than hosts of the internet, which this Python does not know: protocol
# assignments (one is a cloud's metadata), relays of 6to4, documentation, segments.
RESERVED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24")))
RESERVED += tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "3fff::/20", "5f00::/16")))
REFUSED = "The address of this URL is not a public one, so it is not fetched."

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Download:
    """An answer under way; `media_type` and `charset` as its sender declares them."""

    media_type: str | None
    charset: str | None
    pieces: AsyncIterator[bytes]


def check_url(url: str, *, allow_private: bool = False) -> httpx.URL:
    """The parts of a URL that may be fetched; InvalidRequest for any other."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise InvalidRequest("This is not a URL.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidRequest("Only http and https URLs can be imported.")
    if parsed.userinfo:
        raise InvalidRequest("A URL with a user or password in it is not imported.")
    if len(url) > 2048:
        raise InvalidRequest("A URL has at most 2048 characters.")
    literal = _literal(parsed.host)
    if literal is not None and not allow_private and not is_public(literal):
        raise InvalidRequest(REFUSED)
    return parsed


@asynccontextmanager
async def download(
    url: str, *, max_bytes: int, allow_private: bool = False
) -> AsyncIterator[Download]:
    """Fetch a URL through at most HOPS redirects.

    Raises InvalidRequest for an address that is not public, TooLarge over `max_bytes` or
    WHOLE_S, NotFound and Unavailable by the answer's status.
    """
    backend = GuardedBackend(allow_private)
    context = ssl.create_default_context()
    try:
        async with asyncio.timeout(WHOLE_S):
            async with (
                httpcore.AsyncConnectionPool(ssl_context=context, network_backend=backend) as pool,
                _followed(pool, url, allow_private) as answer,
            ):
                yield _download(answer, max_bytes)
    except TimeoutError as error:
        raise TooLarge(f"Fetching this URL took longer than {WHOLE_S:.0f} s.") from error
    except (httpcore.NetworkError, httpcore.TimeoutException) as error:
        raise Unavailable("The server of this URL does not answer.") from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise InvalidRequest("The server of this URL does not speak HTTP.") from error


@asynccontextmanager
async def _followed(
    pool: httpcore.AsyncConnectionPool, url: str, allow_private: bool
) -> AsyncIterator[httpcore.Response]:
    address = check_url(url, allow_private=allow_private)
    for _ in range(HOPS + 1):
        async with pool.stream(
            "GET", _target(address), headers=_headers(address), extensions=_timeouts()
        ) as answer:
            if answer.status not in REDIRECTS:
                _check_status(answer.status)
                yield answer
                return
            place = _header(answer, b"location")
        if place is None:
            raise InvalidRequest("The server of this URL redirects to nowhere.")
        address = check_url(str(_joined(address, place)), allow_private=allow_private)
    raise InvalidRequest(f"The server of this URL redirects more than {HOPS} times.")


def _target(url: httpx.URL) -> httpcore.URL:
    """The same URL for the client below, of the parts that were checked."""
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _joined(base: httpx.URL, place: str) -> httpx.URL:
    try:
        return base.join(place)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidRequest("The server of this URL redirects to something else.") from error


def _headers(url: httpx.URL) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"User-Agent", b"ai-stack"),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
    ]


def _timeouts() -> dict[str, Any]:
    times = {"connect": CONNECT_S, "read": READ_S, "write": READ_S, "pool": CONNECT_S}
    return {"timeout": times}


def _check_status(status: int) -> None:
    if status in PASSING:
        raise Unavailable(f"The server of this URL answers with status {status}.")
    if not 200 <= status < 300:
        raise NotFound(f"The server of this URL answers with status {status}.")


def _download(answer: httpcore.Response, max_bytes: int) -> Download:
    if (_header(answer, b"content-encoding") or "identity").lower() != "identity":
        raise Unsupported("The server of this URL sends compressed what was not asked for so.")
    declared = _header(answer, b"content-length") or ""
    if declared.isdigit() and int(declared) > max_bytes:
        raise TooLarge(f"The file is larger than {max_bytes} bytes.")
    kind, _, parameters = (_header(answer, b"content-type") or "").partition(";")
    _, _, charset = parameters.partition("charset=")
    charset = charset.partition(";")[0].strip(" \"'")
    return Download(kind.strip().lower() or None, charset or None, _bounded(answer, max_bytes))


async def _bounded(answer: httpcore.Response, max_bytes: int) -> AsyncIterator[bytes]:
    taken = 0
    async for piece in answer.aiter_stream():
        taken += len(piece)
        if taken > max_bytes:
            raise TooLarge(f"The file is larger than {max_bytes} bytes.")
        yield piece


def _header(answer: httpcore.Response, name: bytes) -> str | None:
    found = next((value for key, value in answer.headers if key.lower() == name), None)
    return None if found is None else found.decode("latin-1")


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the very address that it checked."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for address in await self._addresses(host, port):
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[str]:
        """What a name resolves to; refused whole when one of them is not public."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name is not known") from error
        addresses = [str(entry[4][0]) for entry in found]
        if not self._allow_private and not all(is_public(_parsed(a)) for a in addresses):
            raise InvalidRequest(REFUSED)
        return addresses


def is_public(address: Address) -> bool:
    """Whether an address, and one that it wraps, belongs to the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = _wrapped(address)
        if wrapped is not None:
            return is_public(wrapped)
        if address.is_site_local:
            return False
    if any(address in network for network in RESERVED):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address within a mapped, 6to4, Teredo or NAT64 one."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None


def _literal(host: str) -> Address | None:
    try:
        return _parsed(host.strip("[]"))
    except ValueError:
        return None


def _parsed(address: str) -> Address:
    return ipaddress.ip_address(address.partition("%")[0])
