"""What a Redis server tells of itself; it knows no key of ours."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from ai_stack.caches.pipeline import SERVERS, Address, Down, Pipeline
from ai_stack.errors import Unavailable


@dataclass(frozen=True, slots=True)
class CacheHealth:
    """How a server is; a limit of 0 is none."""

    memory_bytes: int
    memory_limit_bytes: int
    clients: int
    evictions: int
    hits: int
    misses: int


class CacheStatistics:
    """Asks the server at a URL, over a connection of its own; it connects when it is first used."""

    def __init__(self, url: str) -> None:
        is_server = urlsplit(url).scheme in SERVERS
        self._pipeline = Pipeline(Address.read(url)) if is_server else None

    async def read(self) -> CacheHealth | None:
        """How the server is; None for a cache that is none. Raises Unavailable."""
        if self._pipeline is None:
            return None
        try:
            told = [await self._pipeline.call("INFO", part) for part in ("memory", "stats")]
            told.append(await self._pipeline.call("INFO", "clients"))
        except Down as error:
            raise Unavailable("Redis does not answer.") from error
        found = _numbers(b"".join(one for one in told if isinstance(one, bytes)).decode())
        return CacheHealth(
            found.get("used_memory", 0),
            found.get("maxmemory", 0),
            found.get("connected_clients", 0),
            found.get("evicted_keys", 0),
            found.get("keyspace_hits", 0),
            found.get("keyspace_misses", 0),
        )

    async def aclose(self) -> None:
        if self._pipeline is not None:
            await self._pipeline.aclose()


def _numbers(text: str) -> dict[str, int]:
    """The lines of INFO that hold a whole number."""
    pairs = (line.partition(":")[::2] for line in text.splitlines())
    return {name: int(value) for name, value in pairs if value.isdecimal()}
