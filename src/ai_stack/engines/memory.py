"""An engine in this process whose model repeats what it is told, for unit tests."""

import asyncio
import base64
import re
import struct
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ai_stack.errors import AIStackError, ContextTooLong, EngineBroken, ModelNotFound
from ai_stack.models.inference import Body, Call, Operation, ServedModel, Tokens

NAME = "memory"
OPERATIONS: frozenset[Operation] = frozenset({"chat", "completion", "embedding", "rerank"})
DIMENSIONS = 8
CREATED = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Turn:
    """How one call is answered.

    `text` instead of an echo, or `message` as the fields of the chat message, or `parts` as the
    raw pieces of the body. `error` is raised before the first byte, after `delay_s`; the answer
    breaks off after `breaks_after` pieces. `pause_s` lies before each piece.
    """

    text: str | None = None
    message: Mapping[str, object] | None = None
    parts: Sequence[bytes] | None = None
    error: AIStackError | None = None
    breaks_after: int | None = None
    delay_s: float = 0.0
    pause_s: float = 0.0


@dataclass
class MemoryReply:
    """Pieces of a body, one at a time."""

    media_type: str
    parts: Sequence[bytes]
    turn: Turn
    engine: "MemoryEngine"
    _closed: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for index, part in enumerate(self.parts):
            if index == self.turn.breaks_after:
                self._end()
                raise EngineBroken
            await asyncio.sleep(self.turn.pause_s)
            yield part
        self._end()

    async def aclose(self) -> None:
        if not self._closed:
            self.engine.abandoned += 1
        self._end()

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self.engine.working -= 1


@dataclass
class MemoryEngine:
    """Answers with `script`, one turn a call, and then with echoes.

    `calls` are those that came, `working` those under way, `abandoned` those that were closed
    before their end. A `failure` is raised by every method until it is taken away.
    """

    name: str = "memory:"
    served: Sequence[ServedModel] = (
        ServedModel(NAME, 4096, 4, OPERATIONS, created=CREATED, revision="1"),
    )
    script: list[Turn] = field(default_factory=list)
    failure: AIStackError | None = None
    calls: list[Call] = field(default_factory=list)
    working: int = 0
    abandoned: int = 0

    async def models(self) -> Sequence[ServedModel]:
        self._check()
        return self.served

    async def send(self, call: Call) -> MemoryReply:
        self._check()
        self.calls.append(call)
        turn = self.script.pop(0) if self.script else Turn()
        self.working += 1
        try:
            await asyncio.sleep(turn.delay_s)
            parts = self._parts(call, turn)
        except BaseException:
            self.working -= 1
            raise
        streams = call.streamed and call.operation in ("chat", "completion")
        return MemoryReply(
            "text/event-stream" if streams else "application/json", parts, turn, self
        )

    async def tokens(self, model: str, subject: str | Sequence[object] | Body) -> Tokens:
        """One a word; messages have one more each for their role."""
        self._check()
        self._model(model)
        chat = subject.get("messages", ()) if isinstance(subject, Mapping) else subject
        return counted(chat)

    async def aclose(self) -> None:
        """Nothing is held."""

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _model(self, name: str) -> ServedModel:
        for model in self.served:
            if model.id == name:
                return model
        raise ModelNotFound

    def _parts(self, call: Call, turn: Turn) -> Sequence[bytes]:
        if turn.error is not None:
            raise turn.error
        model = self._model(call.model)
        if turn.parts is not None:
            return turn.parts
        if call.operation == "embedding":
            return [orjson.dumps(_embeddings(call.body))]
        if call.operation == "rerank":
            return [orjson.dumps(_ranking(call.body))]
        return _generated(call, turn, model)


def counted(subject: object) -> list[int]:
    """The tokens of a text or of messages, as this model counts them."""
    return [zlib.crc32(word.encode()) for word in _words(subject)]


def _words(subject: object) -> list[str]:
    if isinstance(subject, str):
        return subject.split()
    if isinstance(subject, Mapping):
        content = subject.get("content", subject.get("text"))
        return [*([str(subject["role"])] if "role" in subject else []), *_words(content)]
    if isinstance(subject, Sequence):
        return [word for one in subject for word in _words(one)]
    return []


def _generated(call: Call, turn: Turn, model: ServedModel) -> Sequence[bytes]:
    chat = call.operation == "chat"
    asked = call.body.get("messages" if chat else "prompt", "")
    prompt = len(_words(asked))
    if model.context_length is not None and prompt > model.context_length:
        over = prompt - model.context_length
        raise ContextTooLong(
            f"The request has {prompt} tokens and {model.context_length} fit: "
            f"it is {over} tokens too long."
        )
    answer = _Answer(call, turn, prompt, _echo(asked) if turn.text is None else turn.text)
    return answer.events() if call.streamed else [orjson.dumps(answer.whole())]


def _echo(asked: Any) -> str:
    """The text of the last message of the user, or the prompt."""
    if isinstance(asked, str):
        return asked
    users = [m for m in asked if isinstance(m, Mapping) and m.get("role") == "user"]
    content = users[-1].get("content") if users else ""
    if isinstance(content, str):
        return content
    parts: Sequence[Any] = content if isinstance(content, Sequence) else ()
    return " ".join(str(part["text"]) for part in parts if "text" in part)


class _Answer:
    """One generated text in OpenAI's forms."""

    def __init__(self, call: Call, turn: Turn, prompt: int, text: str) -> None:
        self._chat = call.operation == "chat"
        self._call, self._message = call, turn.message
        words = re.findall(r"\s*\S+|\s+$", text)
        told = call.body.get("max_completion_tokens") or call.body.get("max_tokens")
        limit = told if isinstance(told, int) else len(words)
        self._words = words[:limit]
        self._reason = "length" if limit < len(words) else "stop"
        if turn.message is not None and turn.message.get("tool_calls"):
            self._reason = "tool_calls"
        self._usage = {
            "prompt_tokens": prompt,
            "completion_tokens": len(self._words),
            "total_tokens": prompt + len(self._words),
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def whole(self) -> dict[str, object]:
        text = "".join(self._words)
        message = {"role": "assistant", "content": text, **(self._message or {})}
        content: dict[str, object] = {"message": message} if self._chat else {"text": text}
        object_ = "chat.completion" if self._chat else "text_completion"
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": self._reason}
        return {**self._head(object_), "choices": [choice], "usage": self._usage}

    def events(self) -> list[bytes]:
        """One event a word, the end's reason, the usage where it is asked for, and [DONE]."""
        pieces = [self._piece(word, None) for word in self._words]
        if self._chat:
            first = {"role": "assistant", "content": "", **(self._message or {})}
            pieces.insert(0, self._choice({"delta": first}, None))
        ending = [*pieces, self._piece("", self._reason)]
        events = [{**self._head(self._chunk), "choices": [piece]} for piece in ending]
        options = self._call.body.get("stream_options")
        if isinstance(options, Mapping) and options.get("include_usage"):
            events.append({**self._head(self._chunk), "choices": [], "usage": self._usage})
        return [*(b"data: %s\n\n" % orjson.dumps(event) for event in events), b"data: [DONE]\n\n"]

    @property
    def _chunk(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _piece(self, text: str, reason: str | None) -> dict[str, object]:
        if not self._chat:
            return self._choice({"text": text}, reason)
        return self._choice({"delta": {"content": text} if text else {}}, reason)

    def _choice(self, content: dict[str, object], reason: str | None) -> dict[str, object]:
        return {"index": 0, **content, "logprobs": None, "finish_reason": reason}

    def _head(self, object_: str) -> dict[str, object]:
        id_ = f"{'chatcmpl' if self._chat else 'cmpl'}-{zlib.crc32(self._call.encoded):08x}"
        return {"id": id_, "object": object_, "created": CREATED, "model": self._call.model}


def _embeddings(body: Mapping[str, object]) -> dict[str, object]:
    """One vector a text, the same for the same words."""
    given = body.get("input", "")
    several = isinstance(given, Sequence) and not isinstance(given, str)
    texts: Sequence[Any] = given if several and not _is_tokens(given) else [given]  # type: ignore[assignment]
    told = body.get("dimensions")
    width = told if isinstance(told, int) else DIMENSIONS
    plain = body.get("encoding_format", "float") == "float"
    rows = [_vector(text, width) for text in texts]
    data = [
        {"object": "embedding", "index": i, "embedding": row if plain else _base64(row)}
        for i, row in enumerate(rows)
    ]
    count = sum(len(text.split()) if isinstance(text, str) else len(text) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _is_tokens(given: Any) -> bool:
    return all(isinstance(one, int) for one in given)


def _vector(text: object, width: int) -> list[float]:
    seeds = [zlib.crc32(f"{place} {text}".encode()) / 2**31 - 1 for place in range(width)]
    length = sum(x * x for x in seeds) ** 0.5 or 1.0
    return [x / length for x in seeds]


def _base64(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()


def _ranking(body: Mapping[str, object]) -> dict[str, object]:
    """Documents by the share of the query's words that they hold."""
    query = set(str(body.get("query", "")).lower().split())
    documents: Any = body.get("documents") or []
    scores = [len(query & set(str(one).lower().split())) / max(1, len(query)) for one in documents]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    told = body.get("top_n")
    chosen = order[:told] if isinstance(told, int) else order
    results = [{"index": i, "relevance_score": scores[i]} for i in chosen]
    usage = {"prompt_tokens": len(query), "total_tokens": len(query)}
    return {"object": "list", "model": body["model"], "results": results, "usage": usage}


def open_backend(url: str) -> MemoryEngine:
    return MemoryEngine(name=url)
