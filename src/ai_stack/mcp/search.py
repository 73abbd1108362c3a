"""Search over MCP."""

from typing import Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ai_stack.mcp.calls import Call
from ai_stack.mcp.tools import READS, Answer, Arguments, Tool
from ai_stack.models.filters import parse_filter
from ai_stack.models.principals import Scope
from ai_stack.models.search import SearchMode, SearchRequest, SearchResult

FILTER = (
    'Metadata to match, as in {"team": "storage"}, {"year": {"gte": 2024}},'
    ' {"tags": {"contains": "draft"}}, {"or": [...]}.'
)


class SearchArguments(Arguments):
    """What to search for."""

    query: str = Field(description="A question or a few words.")
    limit: int = Field(5, ge=1, le=50, description="Most documents to return.")
    offset: int = Field(0, ge=0, le=900)
    filter: dict[str, Any] | None = Field(None, description=FILTER)
    mode: SearchMode = Field("hybrid", description="By meaning, by words, or both.")
    rerank: bool = Field(False, description="Slower, better order.")
    min_score: float | None = None

    def request(self) -> SearchRequest:
        return SearchRequest(
            query=self.query,
            limit=self.limit,
            offset=self.offset,
            filter=parse_filter(self.filter),
            mode=self.mode,
            rerank=self.rerank,
            min_score=self.min_score,
        )


class Passage(TypedDict):
    text: str
    start: int
    end: int
    score: float


class Found(TypedDict):
    id: str
    score: float
    metadata: dict[str, Any]
    passages: list[Passage]


class Results(TypedDict):
    results: list[Found]
    degraded: NotRequired[str]


async def search(call: Call, asked: SearchArguments) -> Answer:
    """Find documents by meaning and by words. Returns the best with the passages that were found
    in each; read_document gives a whole document by its id. Cite documents by their ids."""
    answer = await call.stack.search.search(asked.request(), call.principal)
    shown: dict[str, Any] = {"results": [_result(one) for one in answer.results]}
    return shown if answer.degraded is None else {**shown, "degraded": answer.degraded}


def _result(result: SearchResult) -> dict[str, Any]:
    return {
        "id": result.document.id,
        "score": result.score,
        "metadata": result.document.metadata,
        "passages": result.passages,
    }


TOOLS = (Tool(search, "Search documents", SearchArguments, Results, READS, scope=Scope.READ),)
