"""Any server with a /v1/rerank of Jina's and llama.cpp's shape."""

import json
import math
from collections.abc import Sequence

import httpx

from ai_stack.errors import Unavailable
from ai_stack.settings import Settings

TIMEOUT_S = 10.0
HEADERS = {"Content-Type": "application/json"}


class RemoteReranker:
    """Asks for all passages at once."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S)

    async def rerank(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        if not passages:
            return []
        body = {"query": query, "documents": list(passages), "top_n": len(passages)}
        # ASCII alone, since a lone surrogate has no UTF-8.
        content = json.dumps(body).encode()
        try:
            answer = await self._client.post(self._url, content=content, headers=HEADERS)
            return _scores(answer.raise_for_status().json()["results"], len(passages))
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            raise Unavailable("The reranker does not answer.") from error

    async def aclose(self) -> None:
        await self._client.aclose()


def _scores(results: Sequence[dict[str, float]], passages: int) -> list[float]:
    """One score a passage from results in any order; ValueError or KeyError when it has none."""
    found = {int(one["index"]): float(one["relevance_score"]) for one in results}
    scores = [found[index] for index in range(passages)]
    if not all(map(math.isfinite, scores)):
        raise ValueError("a score is not a number")
    return scores


def open_backend(settings: Settings) -> RemoteReranker:
    assert settings.rerank_url is not None
    return RemoteReranker(settings.rerank_url)
