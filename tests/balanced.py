"""A load on gateways behind a balancer: writes, searches and streams, each watched to its end."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from uuid import uuid4

import httpx

BAD = frozenset({429, 500, 502, 503, 504})
WORDS = 2000


class Load:
    """Asks on threads until it is left; what failed and what was cut off is kept.

    With `retries` it asks again, as a careful client does: with the same idempotency key.
    """

    def __init__(self, connect: Callable[[], httpx.Client], retries: int = 0) -> None:
        self._connect = connect
        self._retries = retries
        self._stop = threading.Event()
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self.truncated: list[str] = []
        self.written: list[str] = []
        kinds: tuple[Callable[[], None], ...] = (self._write, self._search, self._stream)
        self._threads = [threading.Thread(target=self._repeat, args=(kind,)) for kind in kinds * 2]

    def __enter__(self) -> "Load":
        self._client = self._connect()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    @property
    def done(self) -> int:
        return self.counts.total() - self.counts["retried"]

    @property
    def streams(self) -> int:
        return self.counts["streams"]

    @property
    def told(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))

    def missing(self) -> list[str]:
        """What was acknowledged and is not there."""
        with self._connect() as client:
            asked = {one: client.get(f"/documents/{one}") for one in self.written}
        return [one for one, answer in asked.items() if answer.status_code != 200]

    def _repeat(self, kind: Callable[[], None]) -> None:
        while not self._stop.is_set():
            kind()

    def _write(self) -> None:
        name = uuid4().hex
        body = {"id": name, "content": f"Note {name} says what is kept."}
        headers = {"idempotency-key": name}
        answer = self._asked("writes", "POST", "/documents?wait=false", json=body, headers=headers)
        if answer is not None:
            self.written.append(name)

    def _search(self) -> None:
        body = {"query": f"what is kept {uuid4().hex[:4]}"}
        self._asked("searches", "POST", "/search/semantic", json=body)

    def _asked(self, kind: str, method: str, path: str, **more: object) -> httpx.Response | None:
        why = ""
        for attempt in range(self._retries + 1):
            if attempt:
                self.counts["retried"] += 1
                time.sleep(0.2 * attempt)
            try:
                answer = self._client.request(method, path, **more)  # type: ignore[arg-type]
            except httpx.TransportError as error:
                why = repr(error)
                continue
            if answer.status_code not in BAD:
                assert answer.status_code < 400, answer.text
                self.counts[kind] += 1
                return answer
            why = f"{answer.status_code} {answer.text[:200]}"
        self.failed.append(f"{kind}: {why}")
        return None

    def _stream(self) -> None:
        for attempt in range(self._retries + 1):
            if attempt:
                self.counts["retried"] += 1
            if (why := self._streamed()) == "":
                self.counts["streams"] += 1
                return
        (self.failed if why.startswith("failed") else self.truncated).append(why)

    def _streamed(self) -> str:
        """Why one stream is not whole, empty for one that is."""
        asked = f"Tell me of {uuid4().hex}."
        body = {
            "model": "tiny",
            "stream": True,
            "max_tokens": WORDS,
            "messages": [{"role": "user", "content": asked}],
        }
        last = ""
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != 200:
                    return f"failed: {answer.status_code} {answer.read()[:200]!r}"
                for line in answer.iter_lines():
                    last = line or last
        except httpx.TransportError as error:
            return f"failed: {error!r} after {last[:80]}"
        if last == "data: [DONE]":
            return ""
        return f"truncated after {json.dumps(last)[:200]}"
