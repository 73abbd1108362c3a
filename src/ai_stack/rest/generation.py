"""Generation over REST: from a prompt, from documents, and by several models at once."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from fastapi import APIRouter, Response
from pydantic import Field, ValidationError

from ai_stack.errors import AIStackError, InvalidRequest
from ai_stack.models.answers import generated_json
from ai_stack.models.generation import Generated, GenerateRequest
from ai_stack.models.inference import CachePolicy, Options
from ai_stack.models.search import SearchRequest
from ai_stack.rest.openai.endpoint import Delegated, Endpoint, Handle, Request
from ai_stack.rest.openai.reply import Reply
from ai_stack.rest.problems import invalid, problem_of
from ai_stack.rest.requests import MAY_INFER
from ai_stack.rest.search import SearchBody
from ai_stack.services.inference.generation import Generating
from ai_stack.services.inference.reading import JSON, STREAM, Answer
from ai_stack.services.inference.requests import FIELDS, checked

router = APIRouter(prefix="/inference", tags=["inference"])

DONE = b"data: [DONE]\n\n"
MOST_DOCUMENTS = 100
# Fields of chat whose answers are more than one text: /v1/chat/completions takes them.
UNSUITED = (
    *("tools", "tool_choice", "parallel_tool_calls", "functions", "n", "logprobs"),
    *("top_logprobs", "stream_options", "modalities"),
)
SAMPLING = {
    name: field.form
    for name, field in FIELDS["chat"].items()
    if name not in (*UNSUITED, "messages", "stream")
}
OWN = {
    "stream": "true for server-sent events",
    "cache": "true to keep the answer and take a kept one, false for neither",
    "documents": "true, or what POST /search/semantic takes; the query is the user's last message",
}
PROMPT = {"prompt": "a text", "messages": "or a list of messages, as chat takes them"}


class PassagesBody(SearchBody):
    """Which documents an answer is drawn from."""

    limit: int = Field(5, ge=1, le=MOST_DOCUMENTS)


class ProblemReply(Reply):
    """Fails as REST does; within a stream by an event `{"error": …}`."""

    fault_type = (b"content-type", b"application/problem+json")

    def status_of(self, error: AIStackError) -> int:
        return error.status

    def last_event(self, fault: dict[str, object]) -> dict[str, object]:
        return {"error": fault}


@dataclass(slots=True, kw_only=True)
class Told(Answer):
    """An answer of the services, in bytes."""

    generating: Generating

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for delta in self.generating:
            name = "delta" if delta.kind == "text" else "reasoning"
            yield _event({name: delta.text})
        yield _event(_ending(await self.generating.whole()))
        yield DONE

    async def whole(self) -> bytes:
        return orjson.dumps(generated_json(await self.generating.whole()))

    async def aclose(self) -> None:
        await self.generating.aclose()


def endpoint(handle: Handle) -> Endpoint:
    """A handler whose failures are problems."""
    return Endpoint(handle, problem_of, ProblemReply)


def told(generating: Generating, *, streamed: bool) -> Told:
    return Told(
        media_type=STREAM if streamed else JSON,
        cached=generating.answer.cached,
        generating=generating,
    )


async def _generate(request: Request) -> Answer:
    body = request.body
    asked, streamed = read_request(body), is_streamed(body)
    options = with_cache(request.options, body)
    generation = request.stack.generation
    begun = await generation.open(asked, request.caller, options, streamed=streamed)
    return told(begun, streamed=streamed)


async def _parallel(request: Request) -> Answer:
    body = {name: value for name, value in request.body.items() if name != "models"}
    models = _models(request.body.get("models"))
    if is_streamed(body) or "model" in body:
        raise _wrong("stream" if is_streamed(body) else "model", "left out here")
    options = with_cache(request.options, body)
    generation = request.stack.generation
    found = await generation.parallel(models, read_request(body), request.caller, options)
    shown = [_result(model, one) for model, one in zip(models, found, strict=True)]
    return Answer(body=orjson.dumps({"results": shown}))


def _schema(fields: Mapping[str, str], *required: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": list(required),
        "properties": {name: {"description": form} for name, form in fields.items()},
        "additionalProperties": False,
    }
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


GENERATE = _schema({**PROMPT, **OWN, **SAMPLING})
PARALLEL = _schema({"models": "a list of 1 to 16 models", **PROMPT, **OWN, **SAMPLING}, "models")
SAY = _schema({"content": "what the user says", **OWN, **SAMPLING}, "content")


@router.post("/generate", openapi_extra=GENERATE, dependencies=[MAY_INFER])
async def generate() -> Response:
    """Have a model answer, from documents where that is asked, with citations."""
    return Delegated(endpoint(_generate))


@router.post("/parallel", openapi_extra=PARALLEL, dependencies=[MAY_INFER])
async def parallel() -> Response:
    """Have several models answer at once; each has a result or an error of its own."""
    return Delegated(endpoint(_parallel))


def read_request(body: Mapping[str, Any]) -> GenerateRequest:
    """What a body asks for; InvalidRequest names a field that is unknown or wrong."""
    prompt, messages = body.get("prompt"), body.get("messages")
    if (prompt is None) == (messages is None):
        raise _wrong("prompt", "a text, or messages in its place")
    if prompt is not None and not isinstance(prompt, str):
        raise _wrong("prompt", "a text")
    given: Any = messages if prompt is None else [{"role": "user", "content": prompt}]
    rest = {name: value for name, value in body.items() if name not in PROMPT}
    return GenerateRequest(given, fields=read_fields(rest, given), documents=read_documents(rest))


def read_fields(body: Mapping[str, Any], messages: Any) -> dict[str, object]:
    """The fields of chat in a body, checked together with the messages."""
    for name in UNSUITED:
        if name in body:
            raise _wrong(name, "left out: /v1/chat/completions takes it")
    if "messages" in body:
        raise _wrong("messages", "left out here")
    chat = {name: value for name, value in body.items() if name not in OWN}
    passed = checked("chat", {**chat, "messages": messages})
    return {name: value for name, value in passed.items() if name != "messages"}


def read_documents(body: Mapping[str, Any]) -> SearchRequest | None:
    value = body.get("documents")
    if value is None or value is False:
        return None
    try:
        return PassagesBody.model_validate({} if value is True else value).request()
    except ValidationError as error:
        raise invalid(error, "documents") from error


def is_streamed(body: Mapping[str, Any]) -> bool:
    return _flag(body, "stream") is True


def with_cache(options: Options, body: Mapping[str, Any]) -> Options:
    """The options with what the body says of the cache, which wins over the headers."""
    wanted = _flag(body, "cache")
    if wanted is None:
        return options
    return replace(options, cache=CachePolicy(reads=wanted, stores=wanted, asked=wanted))


def _ending(made: Generated) -> dict[str, object]:
    """The last event of a stream: all but what the ones before it said."""
    return {n: v for n, v in generated_json(made).items() if n not in ("text", "reasoning")}


def _result(model: str, found: Generated | AIStackError) -> dict[str, object]:
    if isinstance(found, Generated):
        return generated_json(found)
    told = {"status": found.status, "code": found.code, "detail": found.message}
    return {"model": model, "error": told}


def _models(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise _wrong("models", "a list of models")
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool | None:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false")
    return value


def _event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _wrong(name: str, form: str) -> InvalidRequest:
    reason = f"{name} must be {form}"
    return InvalidRequest(f"{reason}.", fields={name: reason})
