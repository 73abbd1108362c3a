"""Items of the Responses API: read into a conversation, and completed to be stored.

Source: OpenAI's API reference, "Responses", input items.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ai_stack.services.inference.conversation import Conversation, Part, image_part, text_part
from ai_stack.services.inference.dialects import Json, list_of, object_of, refusal, text_of

TEXT_PARTS = ("input_text", "output_text", "text")
ROLES = ("user", "assistant", "system", "developer")
COMPLETE = {"status": "completed"}


def as_items(input: Any, name: str = "input") -> list[dict[str, Any]]:
    """The input of a request as items: a text is one message of the user."""
    if isinstance(input, str):
        return [{"type": "message", "role": "user", "content": input}]
    items = list_of(input, name)
    return [object_of(item, f"{name}[{n}]") for n, item in enumerate(items)]


def read(conversation: Conversation, items: Sequence[Json], name: str = "input") -> None:
    """Add items to a conversation; InvalidRequest names the first that cannot be."""
    for n, item in enumerate(items):
        where = f"{name}[{n}]"
        reader = READERS.get(type_of(item))
        if reader is None:
            raise refusal(f"{where}.type", "items of this type are not supported here")
        reader(conversation, item, where)


def type_of(item: Json) -> str:
    """An item's type; a message may leave it out."""
    return str(item.get("type") or ("message" if "role" in item else ""))


def _message(conversation: Conversation, item: Json, where: str) -> None:
    role = item.get("role")
    if role not in ROLES:
        raise refusal(f"{where}.role", f"must be one of {', '.join(ROLES)}")
    parts = _parts(item.get("content"), f"{where}.content")
    if role == "user":
        conversation.user(parts)
        return
    said = conversation.assistant if role == "assistant" else conversation.instruct
    said(_only_text(parts, where))


def _call(conversation: Conversation, item: Json, where: str) -> None:
    """A call that was cut off in the middle was never answered, and breaks templates."""
    if item.get("status") == "incomplete":
        return
    named = (text_of(item.get(key), f"{where}.{key}") for key in ("call_id", "name", "arguments"))
    conversation.call(*named)


def _output(conversation: Conversation, item: Json, where: str) -> None:
    id = text_of(item.get("call_id"), f"{where}.call_id")
    if not conversation.has_called(id):
        raise refusal(f"{where}.call_id", "no function call with this id comes before its output")
    conversation.result(id, _parts(item.get("output"), f"{where}.output"))


def _reasoning(conversation: Conversation, item: Json, where: str) -> None:
    """What was thought in earlier turns is not shown to the model again."""


READERS: dict[str, Callable[[Conversation, Json, str], None]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "reasoning": _reasoning,
}


def _parts(content: Any, where: str) -> list[Part]:
    if isinstance(content, str):
        return [text_part(content)]
    parts = list_of(content, where)
    return [_part(object_of(p, f"{where}[{n}]"), f"{where}[{n}]") for n, p in enumerate(parts)]


def _part(part: Json, where: str) -> Part:
    kind = part.get("type")
    if kind in TEXT_PARTS:
        return text_part(text_of(part.get("text"), f"{where}.text"))
    if kind == "refusal":
        return text_part(text_of(part.get("refusal"), f"{where}.refusal"))
    if kind == "input_image":
        url = text_of(part.get("image_url"), f"{where}.image_url")
        return image_part(url, part.get("detail"))
    if kind == "image_url":  # chat's own form, which some clients mix in
        image = part.get("image_url")
        given = image.get("url") if isinstance(image, Mapping) else image
        return image_part(text_of(given, f"{where}.image_url"))
    raise refusal(f"{where}.type", "content of this type is not supported here")


def _only_text(parts: list[Part], where: str) -> str:
    if any(part["type"] != "text" for part in parts):
        raise refusal(f"{where}.content", "images are taken from the user only")
    return "\n".join(part["text"] for part in parts)


def stored(items: Sequence[Json], id: str) -> Iterator[dict[str, Any]]:
    """Items with everything that a client expects of one that was stored with a response."""
    for n, item in enumerate(items):
        kind = type_of(item)
        prefix = {"message": "msg", "function_call": "fc", "reasoning": "rs"}.get(kind, "fco")
        whole = {**item, "type": kind, "id": item.get("id") or item_id(prefix, id, n, "i")}
        if kind == "message":
            whole["content"] = list(_stored_parts(item.get("content"), item.get("role")))
        yield whole if kind == "reasoning" else {**COMPLETE, **whole}


def item_id(prefix: str, response_id: str, number: int, mark: str = "") -> str:
    """The id of an item, from its response's: known beforehand, and the same in a stream."""
    return f"{prefix}_{response_id.removeprefix('resp_')}{mark}{number:02x}"


def _stored_parts(content: Any, role: Any) -> Iterator[dict[str, Any]]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        if part["type"] not in TEXT_PARTS:
            yield {"detail": "auto", **part} if part["type"] == "input_image" else dict(part)
        elif role == "assistant":
            yield {"annotations": [], "logprobs": [], **part, "type": "output_text"}
        else:
            yield {**part, "type": "input_text"}
