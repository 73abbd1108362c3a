"""A small hub of models on loopback, in Hugging Face's form, that can misbehave."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WAIT_S = 1.0


@dataclass
class FakeHub:
    """Files by `repository/name`; each of `faults` spoils one download, then it behaves.

    Faults: `cut` ends after half of the answer, `stall` goes silent there, `ignore-range` sends
    the whole file, `busy` answers 503. `lie` announces a wrong hash throughout.
    """

    files: dict[str, bytes]
    token: str | None = None
    faults: list[str] = field(default_factory=list)
    lie: bool = False
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator["FakeHub"]:
        server = Server(self)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def downloads(self) -> list[str | None]:
        """The Range of each download of an ONNX file."""
        return [r for verb, path, r, _ in self.requests if verb == "CDN" and path.endswith(".onnx")]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: FakeHub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub


class Handler(BaseHTTPRequestHandler):
    """Requests to the hub of its server."""

    server: "Server"

    def do_HEAD(self) -> None:
        self.resolve("HEAD")

    def do_GET(self) -> None:
        if self.path.startswith("/cdn/"):
            self.download(self.server.hub.files[self.path.removeprefix("/cdn/")])
        else:
            self.resolve("GET")

    def resolve(self, verb: str) -> None:
        self.note(verb)
        repository, _, name = self.path.strip("/").partition("/resolve/main/")
        content = self.server.hub.files.get(f"{repository}/{name}")
        if (
            self.server.hub.token
            and self.headers["Authorization"] != f"Bearer {self.server.hub.token}"
        ):
            self.end(401)
        elif content is None:
            self.end(404)
        else:
            self.redirect(f"{repository}/{name}", content)

    def redirect(self, place: str, content: bytes) -> None:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        sha256 = hashlib.sha256(content + (b"!" if self.server.hub.lie else b"")).hexdigest()
        tag = sha256 if place.endswith(".onnx") else blob
        # Another name of this machine, so that the token must not follow.
        cdn = self.server.hub.url.replace("127.0.0.1", "localhost")
        headers = {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(content))}
        self.end(302, **headers, Location=f"{cdn}/cdn/{place}")

    def download(self, content: bytes) -> None:
        self.note("CDN")
        fault = (
            self.server.hub.faults.pop(0)
            if self.server.hub.faults and self.path.endswith(".onnx")
            else ""
        )
        if fault == "busy":
            self.end(503)
            return
        start = int((self.headers["Range"] or "bytes=0-")[6:-1])
        start = 0 if fault == "ignore-range" else start
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        self.end_headers()
        self.send(content[start:], fault)

    def send(self, content: bytes, fault: str) -> None:
        half = len(content) // 2 if fault in ("cut", "stall") else len(content)
        self.wfile.write(content[:half])
        if fault == "stall":
            time.sleep(WAIT_S)
        self.close_connection = True

    def note(self, verb: str) -> None:
        heads = self.headers
        self.server.hub.requests.append((verb, self.path, heads["Range"], heads["Authorization"]))

    def end(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...
