"""What a request may say: each field by name with its form; nothing else reaches an engine.

The fields are OpenAI's, and those of llama.cpp and vLLM that cannot reach beyond the request.
Sources: OpenAI's API reference, llama-server's README, vLLM's sampling parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ai_stack.errors import InvalidRequest
from ai_stack.models.inference import Operation

Check: TypeAlias = Callable[[Any], bool]

LONGEST_GRAMMAR = 64 << 10
MOST_TOKENS = 1 << 24
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PARTS = ("text", "image_url", "input_audio", "refusal")
# By each of these vLLM fetches what a part names, whatever its type says, once it has a `uuid`.
REACHING = frozenset(
    (
        *("image_url", "audio_url", "video_url", "input_audio", "file", "uuid"),
        *("image_pil", "image_embeds", "audio_embeds", "prompt_embeds"),
    )
)
OF_ENGINES = frozenset(("chat_template", "tokenize"))


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its check, and how its form is told. A field that is not `passed` ends here."""

    check: Check
    form: str
    passed: bool = True


def checked(operation: Operation, body: Mapping[str, Any]) -> dict[str, object]:
    """The fields that go to an engine; InvalidRequest names a field that is unknown or wrong."""
    fields, passed = FIELDS[operation], {}
    for name, value in body.items():
        field = fields.get(name)
        if field is None:
            raise _refusal(name, f"Unrecognized request argument: {name}")
        if value is None:
            continue
        if not field.check(value):
            raise _refusal(name, f"{name} must be {field.form}")
        if field.passed:
            passed[name] = value
    for name in REQUIRED[operation]:
        if name not in passed:
            raise _refusal(name, f"Missing required parameter: {name}")
    return passed


def _refusal(name: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{reason[:300]}.", fields={name[:100]: reason[:300]})


def _number(least: float, most: float) -> Check:
    return lambda v: type(v) in (int, float) and least <= v <= most


def _whole(least: int, most: int) -> Check:
    return lambda v: type(v) is int and least <= v <= most


def _text(longest: int) -> Check:
    return lambda v: type(v) is str and len(v) <= longest


def _texts(most: int) -> Check:
    return lambda v: type(v) is list and len(v) <= most and all(type(t) is str for t in v)


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_object(value: object) -> bool:
    return type(value) is dict


def _any(*checks: Check) -> Check:
    return lambda v: any(check(v) for check in checks)


def _one_of(*values: object) -> Check:
    return lambda v: isinstance(v, str | int | bool) and v in values


def _is_bias(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    number = _number(-100, 100)
    return all(k.lstrip("-").isdecimal() and number(v) for k, v in value.items())


def _are_messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(value: object) -> bool:
    if not isinstance(value, dict) or value.get("role") not in ROLES:
        return False
    content = value.get("content")
    if not (content is None or isinstance(content, str)):
        return isinstance(content, list) and all(map(_is_part, content))
    calls = value.get("tool_calls")
    return calls is None or (isinstance(calls, list) and all(map(_is_object, calls)))


def _is_part(value: object) -> bool:
    """A part of a message; images come within the request, so that nothing is fetched for it."""
    if not isinstance(value, dict) or value.get("type") not in PARTS:
        return False
    kind = value["type"]
    if len(value) > 2 and value.keys() & (REACHING - {kind}):
        return False
    if kind == "text":
        return isinstance(value.get("text"), str)
    if kind == "input_audio":
        return _is_audio(value.get("input_audio"))
    return kind != "image_url" or _is_image(value)


def _is_audio(value: object) -> bool:
    data = value.get("data") if isinstance(value, dict) else None
    return isinstance(data, str) and (":" not in data[:64] or data.startswith("data:audio/"))


def _is_image(value: Mapping[str, Any]) -> bool:
    image = value.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    return isinstance(url, str) and url.startswith("data:image/")


def _are_tools(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 512 and all(map(_is_tool, value))


def _is_tool(value: object) -> bool:
    if not isinstance(value, dict) or value.get("type") != "function":
        return False
    function = value.get("function")
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _is_prompt(value: object) -> bool:
    """A text, tokens, or a list of these."""
    if isinstance(value, list) and len(value) <= 2048 and value and isinstance(value[0], list):
        return all(map(_are_tokens, value))
    return isinstance(value, str) or _are_tokens(value) or _texts(2048)(value)


def _are_tokens(value: object) -> bool:
    is_token = _whole(0, MOST_TOKENS)
    return isinstance(value, list) and bool(value) and all(map(is_token, value))


def _is_input(value: object) -> bool:
    return bool(value) and _is_prompt(value)


BOOL, OBJECT = Field(_is_bool, "true or false"), Field(_is_object, "an object")
TOKENS = Field(_whole(0, MOST_TOKENS), f"a number of tokens, {MOST_TOKENS} at most")
COUNT = Field(_whole(1, 16), "a whole number from 1 to 16")
PENALTY = Field(_number(-2, 2), "a number from -2 to 2")
SHARE = Field(_number(0, 1), "a number from 0 to 1")
POSITIVE = Field(_number(0, 1e6), "a number that is not negative")
LIMIT = Field(_whole(-1, MOST_TOKENS), "a whole number, -1 for none")
GRAMMAR = Field(_text(LONGEST_GRAMMAR), f"a text of at most {LONGEST_GRAMMAR} characters")
MODEL = Field(_text(512), "the name of a model")
NAME = Field(_text(512), "a text of at most 512 characters", passed=False)
UNUSED = Field(lambda _: True, "anything", passed=False)

_SAMPLING: dict[str, Field] = {
    "model": MODEL,
    "stream": BOOL,
    "stream_options": OBJECT,
    "max_tokens": TOKENS,
    "temperature": Field(_number(0, 2), "a number from 0 to 2"),
    "top_p": SHARE,
    "n": COUNT,
    "stop": Field(_any(_text(4096), _texts(16)), "a text or at most 16 of them"),
    "seed": Field(_whole(-(2**63), 2**63 - 1), "a whole number"),
    "presence_penalty": PENALTY,
    "frequency_penalty": PENALTY,
    "logit_bias": Field(_is_bias, "an object of token ids with numbers from -100 to 100"),
    "user": NAME,
    # Of llama.cpp and vLLM.
    "top_k": LIMIT,
    "min_p": SHARE,
    "typical_p": SHARE,
    "repeat_penalty": POSITIVE,
    "repetition_penalty": POSITIVE,
    "repeat_last_n": LIMIT,
    "min_tokens": TOKENS,
    "ignore_eos": BOOL,
    "cache_prompt": BOOL,
    "grammar": GRAMMAR,
    "json_schema": OBJECT,
    "stop_token_ids": Field(_are_tokens, "a list of token ids"),
    "skip_special_tokens": BOOL,
}

_CHAT: dict[str, Field] = {
    **_SAMPLING,
    "messages": Field(
        _are_messages,
        "a list of messages with a known role and content; images as data:image/ URLs",
    ),
    "max_completion_tokens": TOKENS,
    "logprobs": BOOL,
    "top_logprobs": Field(_whole(0, 20), "a whole number from 0 to 20"),
    "tools": Field(_are_tools, "a list of function tools"),
    "tool_choice": Field(
        _any(_one_of("none", "auto", "required"), _is_object),
        "none, auto, required or an object that names a function",
    ),
    "parallel_tool_calls": BOOL,
    "response_format": OBJECT,
    "reasoning_effort": Field(
        _one_of("none", "minimal", "low", "medium", "high", "xhigh"),
        "none, minimal, low, medium, high or xhigh",
    ),
    "chat_template_kwargs": Field(
        lambda v: type(v) is dict and not v.keys() & OF_ENGINES,
        "an object of what a template knows, without a template",
    ),
    "reasoning_format": Field(_one_of("none", "auto", "deepseek"), "none, auto or deepseek"),
    "functions": Field(lambda v: v == [], "left out: use tools"),
    "modalities": Field(lambda v: v == ["text"], '["text"]', passed=False),
    **dict.fromkeys(
        (
            *("metadata", "store", "service_tier", "prediction", "prompt_cache_key"),
            *("safety_identifier", "verbosity", "prompt_cache_retention"),
        ),
        UNUSED,
    ),
}

_COMPLETION: dict[str, Field] = {
    **_SAMPLING,
    "prompt": Field(_is_prompt, "a text, a list of texts, token ids, or a list of these"),
    "suffix": Field(lambda v: type(v) is str, "a text"),
    "echo": BOOL,
    "best_of": COUNT,
    "logprobs": Field(_whole(0, 20), "a whole number from 0 to 20"),
}

_EMBEDDING: dict[str, Field] = {
    "model": MODEL,
    "input": Field(_is_input, "a text, a list of texts, token ids, or a list of these"),
    "encoding_format": Field(_one_of("float", "base64"), "float or base64"),
    "dimensions": Field(_whole(1, 65_536), "a whole number from 1 to 65536"),
    "user": NAME,
}

_RERANK: dict[str, Field] = {
    "model": MODEL,
    "query": Field(_text(65_536), "a text of at most 65536 characters"),
    "documents": Field(lambda v: bool(v) and _texts(1000)(v), "a list of at most 1000 texts"),
    "top_n": Field(_whole(1, 1000), "a whole number from 1 to 1000"),
    "return_documents": Field(_is_bool, "true or false", passed=False),
}

FIELDS: dict[Operation, Mapping[str, Field]] = {
    "chat": _CHAT,
    "completion": _COMPLETION,
    "embedding": _EMBEDDING,
    "rerank": _RERANK,
}
REQUIRED: dict[Operation, Sequence[str]] = {
    "chat": ("messages",),
    "completion": ("prompt",),
    "embedding": ("input",),
    "rerank": ("query", "documents"),
}
