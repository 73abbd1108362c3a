"""What Redis keeps of one project, forgotten key by key; it knows no kind of key.

The rule that it stands on: the name of every key that is a project's holds the project's id.
"""

from collections.abc import Iterable
from typing import cast
from urllib.parse import urlsplit
from uuid import UUID

from ai_stack.caches.pipeline import SERVERS, Address, Down, Pipeline
from ai_stack.errors import Unavailable

PATTERN, PAGE = "aidb:*", 1000


class Traces:
    """Goes through the servers at these URLs, each once; it connects when it is first used.

    No script is run and no server is held up: keys are looked at a page at a time, and freed in
    the background.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        servers = {url for url in urls if urlsplit(url).scheme in SERVERS}
        self._pipelines = [Pipeline(Address.read(url)) for url in sorted(servers)]

    async def forget(self, project_id: UUID) -> int:
        """Delete every key of a project; how many there were. Raises Unavailable."""
        try:
            return sum([await _forget(one, project_id) for one in self._pipelines])
        except Down as error:
            raise Unavailable("Redis does not answer.") from error

    async def aclose(self) -> None:
        for pipeline in self._pipelines:
            await pipeline.aclose()


async def _forget(pipeline: Pipeline, project_id: UUID) -> int:
    forms, gone, cursor = (str(project_id).encode(), project_id.hex.encode()), 0, b"0"
    while True:
        asked = ("SCAN", cursor, "MATCH", PATTERN, "COUNT", PAGE)
        cursor, keys = cast(tuple[bytes, list[bytes]], await pipeline.call(*asked))
        if ours := [key for key in keys if any(form in key for form in forms)]:
            gone += cast(int, await pipeline.call("UNLINK", *ours))
        if cursor == b"0":
            return gone
