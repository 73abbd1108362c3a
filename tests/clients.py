"""A gateway that is played: OpenAI's routes with scripted answers, on a port of its own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LENGTH = 8192


@dataclass
class Played:
    """What it serves, what it was asked, and which paths it refuses.

    With `keys`, a scope list each, it asks for one of them; `shown` is who asked last, by path.
    """

    models: list[str] = field(default_factory=lambda: ["small-chat", "other-chat"])
    embedding: str | None = "small-embedder"
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    calls_tools: bool = True
    url: str = ""
    keys: dict[str, list[str]] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)

    def admits(self, path: str, token: str, body: dict[str, Any]) -> int:
        """The status for a token; without keys nobody needs one."""
        self.shown[path] = token
        if not self.keys or path == "/health":
            return 200
        if token not in self.keys:
            return 401
        more = {"manage", *body["scopes"]} if path == "/keys" else set()
        return 403 if more - set(self.keys[token]) else 200

    def know(self, path: str, token: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/auth/me" and self.keys:
            return {"authentication": "required", "scopes": self.keys[token]}
        if path == "/keys":
            id = f"made{len(self.keys)}"
            self.keys[f"aidb_{id}"] = body["scopes"]
            return {"id": id, "key": f"aidb_{id}", **body}
        return self.answer(path, body)

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/v1/models":
            known = [*self.models, *([self.embedding] if self.embedding else [])]
            entries = [{"id": m, "object": "model", "context_length": LENGTH} for m in known]
            return {"object": "list", "data": entries}
        if path == "/health":
            return {"status": "healthy", "services": {}}
        if path == "/embeddings/models":
            active = [{"model": self.embedding, "state": "active"}] if self.embedding else []
            return {"items": active, "next_cursor": None}
        if path == "/v1/embeddings":
            return {"object": "list", "data": [{"embedding": [0.1, 0.2], "index": 0}]}
        if path == "/v1/chat/completions":
            choice = {"index": 0, "message": message(body if self.calls_tools else {}), **STOP}
            return {**HEAD, "choices": [choice], "usage": USAGE}
        return None


USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
HEAD = {"id": "1", "object": "chat.completion", "created": 1, "model": "small-chat"}
STOP = {"finish_reason": "stop"}


def message(body: dict[str, Any]) -> dict[str, Any]:
    if not body.get("tools"):
        return {"role": "assistant", "content": "ok"}
    call = {"name": body["tools"][0]["function"]["name"], "arguments": '{"ok": true}'}
    calls = [{"id": "c1", "type": "function", "function": call}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def chunks() -> Iterator[str]:
    for delta in ({"role": "assistant"}, {"content": "ok"}, {}):
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        chunk = {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


@contextmanager
def gateway(**what: Any) -> Iterator[Played]:
    played = Played(**what)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            self.reply({})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any]) -> None:
            played.asked.append((self.path, body))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status = played.admits(self.path, token, body)
            known = played.know(self.path, token, body) if status == 200 else None
            found = None if self.path in played.broken else known
            error = {"error": {"message": "planted failure", "type": "server_error"}}
            streamed = found is not None and body.get("stream")
            self.send_response(200 if found is not None else 404 if status == 200 else status)
            self.send_header(
                "Content-Type", "text/event-stream" if streamed else "application/json"
            )
            self.end_headers()
            text = "".join(chunks()) if streamed else json.dumps(found or error)
            if self.command != "HEAD":
                self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        played.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield played
        finally:
            server.shutdown()
            thread.join()
