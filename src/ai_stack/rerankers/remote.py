"""Any server with a /v1/rerank of Jina's and llama.cpp's shape."""

from collections.abc import Sequence

import httpx

from ai_stack.errors import Unavailable
from ai_stack.settings import Settings

TIMEOUT_S = 10.0


class RemoteReranker:
    """Asks for all passages at once."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.rerank_url or ""
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S)

    async def rerank(self, query: str, passages: Sequence[str]) -> Sequence[float]:
        body = {"query": query, "documents": list(passages), "top_n": len(passages)}
        try:
            answer = await self._client.post(self._url, json=body)
            results = answer.raise_for_status().json()["results"]
            scores = {int(r["index"]): float(r["relevance_score"]) for r in results}
            return [scores[i] for i in range(len(passages))]
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            raise Unavailable("The reranker does not answer.") from error

    async def aclose(self) -> None:
        await self._client.aclose()
