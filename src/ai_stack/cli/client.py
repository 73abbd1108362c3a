"""The command line's way to the gateway: HTTP, and failures as one line that says what to do."""

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any, Self, TypeAlias
from urllib.parse import quote, urlsplit

import httpx

from ai_stack.cli.credentials import Credentials
from ai_stack.errors import AIStackError
from ai_stack.settings import load_settings
from ai_stack.tls import trust

TIMEOUT = httpx.Timeout(180.0, connect=5.0)
PAGE = 500
TRIES = 5
LOOPBACK = ("127.0.0.1", "localhost", "::1")
BUSY = (429, 503)
ENDS = ("done", "failed", "cancelled")

UNTRUSTED = (
    "The certificate of {} is not one that is trusted here: AI_STACK_CA_FILE names the authorities "
    "to trust."
)

Answer: TypeAlias = dict[str, Any]


class Refused(AIStackError):
    """The gateway refused the request; `answered` is its HTTP status, `reason` its word for it."""

    def __init__(self, answered: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.answered, self.reason = answered, reason


class Unreachable(AIStackError):
    """The gateway does not answer, or broke off."""


class Gateway:
    """One gateway over HTTP; every failure is an AIStackError that can be shown as it is."""

    def __init__(
        self,
        url: str,
        transport: httpx.BaseTransport | None = None,
        auth: httpx.Auth | None = None,
        trust: SSLContext | bool = True,
    ) -> None:
        self.url = url.rstrip("/")
        near = urlsplit(url).hostname in LOOPBACK  # no proxy stands before this machine itself
        self._http = httpx.Client(
            base_url=self.url,
            timeout=TIMEOUT,
            trust_env=not near,
            transport=transport,
            auth=auth,
            verify=trust,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def project(self) -> str | None:
        """The project that is asked in, None for the one that the credentials are for."""
        name = self._http.headers.get("X-Project")
        return None if name is None else str(name)

    @project.setter
    def project(self, name: str | None) -> None:
        self._http.headers.update({} if name is None else {"X-Project": name})

    def ask(self, method: str, path: str, **request: Any) -> Answer:
        """The JSON object that the gateway answers; `{}` for an empty answer."""
        with self._translated():
            reply = self._http.request(method, path, **request)
        return self._object(reply)

    def insist(self, method: str, path: str, **request: Any) -> Answer:
        """As `ask`, for what is safe to repeat: a gateway that is busy is asked again."""
        for n in range(TRIES):
            try:
                return self.ask(method, path, **request)
            except Refused as error:
                if error.answered not in BUSY or n == TRIES - 1:
                    raise
                time.sleep(2.0**n / 2)
        raise AssertionError

    def items(self, path: str, limit: int | None, **params: Any) -> Iterator[Answer]:
        """The first `limit` items of a list, or all of them, page after page."""
        cursor, left = None, limit
        while left is None or left > 0:
            asked = {**params, "limit": min(PAGE, left or PAGE), "cursor": cursor}
            page = self.ask("GET", path, params=given(**asked))
            yield from page["items"]
            cursor = page["next_cursor"]
            left = None if left is None else left - len(page["items"])
            if cursor is None:
                return

    @contextmanager
    def bytes(self, path: str, **params: Any) -> Iterator[Iterator[bytes]]:
        """The answer's body as it comes; a body that is cut short raises Unreachable."""
        with self._translated(), self._http.stream("GET", path, params=given(**params)) as reply:
            self._check(reply)
            yield reply.iter_bytes()

    def chunks(self, path: str, body: Answer) -> Generator[Answer, None, None]:
        """The events of a streamed answer up to its [DONE]; one that breaks off raises.

        Closing the iterator drops the connection, by which the gateway stops the work.
        """
        with self._translated(), self._http.stream("POST", path, json=body) as reply:
            self._check(reply)
            for line in reply.iter_lines():
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    return
                if data != line:
                    yield self._event(json.loads(data))
        raise Unreachable("The answer broke off before its end.")

    def _event(self, event: Answer) -> Answer:
        if "error" in event:
            raise Refused(int(event["error"]["status"]), str(event["error"]["detail"]))
        return event

    def events(self, run_id: str) -> Iterator[tuple[str, Answer]]:
        """A run's events as (kind, data), from its first to its last; reconnects by itself."""
        last, failures = "0", 0
        while failures < TRIES:
            try:
                for number, kind, data in self._stream(run_id, last):
                    last, failures = number, 0
                    yield kind, data
                    if kind in ENDS:
                        return
            except Unreachable:
                if failures == TRIES - 1:
                    raise
            failures += 1
            time.sleep(0.2 * failures)

    def _stream(self, run_id: str, last: str) -> Iterator[tuple[str, str, Answer]]:
        headers = {"Last-Event-ID": last, "Accept": "text/event-stream"}
        path = f"/runs/{quoted(run_id)}/events"
        with self._translated(), self._http.stream("GET", path, headers=headers) as reply:
            self._check(reply)
            fields: dict[str, str] = {}
            for line in reply.iter_lines():
                name, _, value = line.partition(":")
                if name:
                    fields[name] = value.removeprefix(" ")
                elif line == "" and "data" in fields:
                    event = json.loads(fields["data"])
                    yield fields.get("id", last), event["kind"], event["data"]
                    fields = {}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Unreachable(UNTRUSTED.format(self.url)) from error
            raise Unreachable(
                f"The gateway at {self.url} does not answer: start it with `ai-stack up`."
            ) from error
        except httpx.TimeoutException as error:
            raise Unreachable(
                f"The gateway at {self.url} took too long to answer; `ai-stack health` tells more."
            ) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"The connection to the gateway at {self.url} broke off; "
                "`ai-stack logs aidb-mcp` may tell why."
            ) from error

    def _check(self, reply: httpx.Response) -> None:
        if reply.is_success:
            return
        reply.read()
        problem = _parsed(reply) or {}
        reason = str(problem.get("code") or problem.get("error") or "")
        raise Refused(reply.status_code, self._reason(reply), reason)

    def _object(self, reply: httpx.Response) -> Answer:
        self._check(reply)
        found = _parsed(reply)
        if found is None:
            raise self._stranger()
        return found

    def _reason(self, reply: httpx.Response) -> str:
        problem = _parsed(reply)
        if problem is None or "detail" not in problem:
            return self._stranger().message
        message = str(problem["detail"])
        if reply.status_code < 500 or reply.status_code in BUSY:
            return message
        return f"{message} (`ai-stack logs aidb-mcp` has request {problem.get('request_id')}.)"

    def _stranger(self) -> AIStackError:
        return Unreachable(f"What answers at {self.url} is not an AIDB gateway; see AI_STACK_URL.")


def connect(project: str | None = None) -> Gateway:
    """The gateway that the settings name, with the credentials that are for it.

    `project` is the one that is meant, by its name or id, where there are several.
    """
    settings = load_settings()
    gateway = Gateway(settings.gateway_url, auth=Credentials.of(settings), trust=trust(settings))
    gateway.project = project
    return gateway


def quoted(id: str) -> str:
    """An id as one segment of a path, whatever characters it has."""
    return quote(id, safe="") if id.strip(".") else id.replace(".", "%2E")


def given(**params: Any) -> dict[str, Any]:
    """Those of the parameters that have a value; objects as JSON."""
    found = {name: value for name, value in params.items() if value is not None}
    return {n: json.dumps(v) if isinstance(v, Mapping) else v for n, v in found.items()}


def _parsed(reply: httpx.Response) -> Answer | None:
    if not reply.content:
        return {}
    try:
        found = reply.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
