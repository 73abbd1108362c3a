"""A model that says what a script has, over HTTP, so that other processes can ask it too.

Which line it says depends on how many it has said in the conversation that it is shown. So a
conversation that goes on after a crash gets the line that comes next.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
Script: TypeAlias = "Sequence[Message] | Callable[[Sequence[Message]], Message]"
MODEL = {"id": "scripted", "object": "model", "created": 1, "owned_by": "tests"}


def says(text: str) -> Message:
    return {"role": "assistant", "content": text}


def calls(name: str, /, **arguments: Any) -> Message:
    """A message that calls one tool; the id tells its arguments apart from others."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    number = abs(hash(function["arguments"])) % 10**8
    call = {"id": f"call-{name}-{number}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


@dataclass
class ScriptedModel:
    """`seen` are the requests that came; `slow_s` passes before each answer."""

    script: Script
    slow_s: float = 0.0
    seen: list[Mapping[str, Any]] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ScriptedModel"]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()

    def results(self) -> list[str]:
        """What tools told the model, as its last request shows it."""
        messages = self.seen[-1]["messages"]
        return [m["content"] for m in messages if m["role"] == "tool"]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = _length(head)
                body = await reader.readexactly(length)
                answer = json.dumps(await self._answer(head, body)).encode()
                reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d"
                writer.write(reply % len(answer) + b"\r\n\r\n" + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes) -> object:
        if head.startswith(b"GET"):
            return {"object": "list", "data": [MODEL]}
        request = json.loads(body)
        self.seen.append(request)
        await asyncio.sleep(self.slow_s)
        message = self._next(request["messages"])
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        about = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1}
        return {**about, "model": "scripted", "choices": [choice], "usage": usage}

    def _next(self, messages: Sequence[Message]) -> Message:
        if callable(self.script):
            return self.script(messages)
        said = sum(message["role"] == "assistant" for message in messages)
        return self.script[min(said, len(self.script) - 1)]


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
