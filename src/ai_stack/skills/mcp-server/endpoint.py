"""A server that is reached by HTTP, within bounds.

The SDK reads an answer of any size, and one that unpacks to any size; here neither is taken. It
follows no redirect to another origin, so that headers with keys go nowhere else.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
from mcp.client.streamable_http import streamable_http_client

from .process import MAX_BYTES, MAX_LINE_BYTES, Received, Sent, Traffic
from .servers import Endpoint

CONNECT_S, CONNECTIONS = 10.0, 8


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """Counts what all answers of one connection bring."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=CONNECTIONS))
        self.traffic, self.left = traffic, MAX_BYTES

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        found = await super().handle_async_request(request)
        self.traffic.http_status = found.status_code
        assert isinstance(found.stream, httpx2.AsyncByteStream)
        if found.headers.get("content-encoding", "identity") != "identity":
            await found.stream.aclose()
            raise self.refusal("It packs its answers, though it was asked not to.")
        stream = CountedStream(found.stream, self)
        return httpx2.Response(
            found.status_code, headers=found.headers, stream=stream, extensions=found.extensions
        )

    def count(self, size_bytes: int) -> None:
        """Take so many bytes off what may still come."""
        self.left -= size_bytes
        if self.left < 0:
            raise self.refusal(f"It sent more than {MAX_BYTES >> 20} MiB.")

    def refusal(self, why: str) -> httpx2.ReadError:
        self.traffic.fault = why
        return httpx2.ReadError(why)


@dataclass(frozen=True, slots=True)
class CountedStream(httpx2.AsyncByteStream):
    """The body of one answer."""

    stream: httpx2.AsyncByteStream
    transport: BoundedTransport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self.stream:
            self.transport.count(len(data))
            yield data

    async def aclose(self) -> None:
        await self.stream.aclose()


@asynccontextmanager
async def reached(
    endpoint: Endpoint, traffic: Traffic, wait_s: float
) -> AsyncIterator[tuple[Received, Sent]]:
    """Speak with a server at a URL, with the headers of its entry."""
    timeout = httpx2.Timeout(wait_s, connect=min(wait_s, CONNECT_S))
    client = httpx2.AsyncClient(
        transport=BoundedTransport(traffic), headers=endpoint.headers, timeout=timeout
    )
    async with (
        client,
        streamable_http_client(
            endpoint.url, http_client=client, max_sse_event_size=MAX_LINE_BYTES
        ) as streams,
    ):
        yield streams  # type: ignore[misc]
