"""Language models over MCP."""

from contextlib import aclosing
from typing import Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ai_stack.mcp.calls import Call
from ai_stack.mcp.search import FILTER
from ai_stack.mcp.tools import READS, Answer, Arguments, NoArguments, Tool
from ai_stack.models.answers import generated_json
from ai_stack.models.filters import parse_filter
from ai_stack.models.generation import GenerateRequest
from ai_stack.models.inference import Options
from ai_stack.models.principals import Scope
from ai_stack.models.search import SearchRequest


class GenerateArguments(Arguments):
    """What a model is asked."""

    prompt: str
    system: str | None = Field(None, description="Instructions for the model.")
    model: str | None = Field(None, description="One of list_models; the default one without.")
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    documents: bool = Field(False, description="Answer from the stored documents, with citations.")
    filter: dict[str, Any] | None = Field(None, description=f"With documents. {FILTER}")

    def request(self) -> GenerateRequest:
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return GenerateRequest(
            [*system, {"role": "user", "content": self.prompt}],
            fields=self.model_dump(
                include={"model", "max_tokens", "temperature"}, exclude_none=True
            ),
            documents=SearchRequest(limit=5, filter=parse_filter(self.filter))
            if self.documents
            else None,
        )


class Cited(TypedDict):
    document_id: str
    start: int
    end: int
    text: str


class Written(TypedDict):
    text: str
    model: str
    finish_reason: str
    usage: dict[str, int]
    citations: NotRequired[list[Cited]]
    degraded: NotRequired[str]


class Model(TypedDict):
    id: str
    context_length: int | None
    operations: list[str]
    loaded: bool


class Models(TypedDict):
    models: list[Model]


async def generate(call: Call, asked: GenerateArguments) -> Answer:
    """Have one of the stack's language models write an answer, from the stored documents where that
    is asked."""
    options = Options(departure=call.departure)
    begun = await call.stack.generation.open(
        asked.request(), call.principal, options, streamed=call.is_followed
    )
    async with aclosing(begun):
        written = 0
        async for _ in begun:
            written += 1
            await call.progress(written, asked.max_tokens)
        return generated_json(await begun.whole())


async def list_models(call: Call, _: NoArguments) -> Answer:
    """List the language models that generate can ask, the default one first."""
    return {
        "models": [
            {
                "id": model.id,
                "context_length": model.context_length,
                "operations": sorted(model.operations),
                "loaded": model.loaded,
            }
            for model in call.stack.inference.models()
        ]
    }


TOOLS = (
    Tool(generate, "Ask a local model", GenerateArguments, Written, READS, scope=Scope.INFER),
    Tool(list_models, "List models", NoArguments, Models, READS, scope=Scope.INFER),
)
