"""A chat conversation as it is put together from another dialect's turns."""

from collections.abc import Iterable, Mapping
from typing import Any

Part = dict[str, Any]


class Conversation:
    """Chat messages that the templates of local models take.

    What an assistant said and called in one turn is one message. System texts at the head are
    one message, since many templates take no second. Chat knows no images in tool results: they
    follow as a user's message after the results of the turn.
    """

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._images: list[Part] = []
        self._called: set[str] = set()

    def instruct(self, text: str) -> None:
        self._show_images()
        if [m["role"] for m in self._messages] == ["system"]:
            self._messages[0]["content"] += "\n\n" + text
        else:
            self._messages.append({"role": "system", "content": text})

    def user(self, parts: Iterable[Part]) -> None:
        self._show_images()
        self._messages.append({"role": "user", "content": _content(list(parts))})

    def assistant(self, text: str) -> None:
        turn = self._turn()
        turn["content"] = f"{turn['content']}\n{text}" if turn["content"] else text

    def call(self, id: str, name: str, arguments: str) -> None:
        self._called.add(id)
        function = {"name": name, "arguments": arguments}
        call = {"id": id, "type": "function", "function": function}
        self._turn().setdefault("tool_calls", []).append(call)

    def has_called(self, id: str) -> bool:
        return id in self._called

    def result(self, id: str, parts: Iterable[Part]) -> None:
        """What the call of an id gave."""
        texts, images = _sorted(parts)
        self._messages.append({"role": "tool", "tool_call_id": id, "content": "\n".join(texts)})
        self._images += images

    def messages(self) -> list[dict[str, Any]]:
        self._show_images()
        return self._messages

    def _turn(self) -> dict[str, Any]:
        self._show_images()
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._messages.append({"role": "assistant", "content": ""})
        return self._messages[-1]

    def _show_images(self) -> None:
        images, self._images = self._images, []
        if images:
            self._messages.append({"role": "user", "content": images})


def text_part(text: str) -> Part:
    return {"type": "text", "text": text}


def image_part(url: str, detail: object = None) -> Part:
    image = {"url": url, "detail": detail} if isinstance(detail, str) else {"url": url}
    return {"type": "image_url", "image_url": image}


def joined(parts: Iterable[Mapping[str, Any]]) -> str:
    """The texts among parts, each on lines of its own."""
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def _content(parts: list[Part]) -> str | list[Part]:
    """Parts as they are where images are among them, else one text, which every template takes."""
    return parts if any(p["type"] != "text" for p in parts) else joined(parts)


def _sorted(parts: Iterable[Part]) -> tuple[list[str], list[Part]]:
    texts: list[str] = []
    images: list[Part] = []
    for part in parts:
        if part["type"] == "text":
            texts.append(part["text"])
        else:
            images.append(part)
    return texts, images
