"""A hub of models in Hugging Face's form: files looked up, resumed, checked by hash.

It does not know what the files are for.
"""

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import httpx

from ai_stack.errors import Forbidden, SettingsError, StackError, StorageFull, Unavailable
from ai_stack.settings import Settings

Progress = Callable[[str, int, int], None]
T = TypeVar("T")

_SHA256 = re.compile("[0-9a-f]{64}")
_SHA1 = re.compile("[0-9a-f]{40}")
_PAGES = 100

log = logging.getLogger("ai_stack.hub")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as the hub announces it; `tag` is the sha256 of a large file, else git's sha1."""

    url: str
    tag: str
    size_bytes: int
    path: str = ""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def told(name: str, done: int, total: int) -> None:
    log.info("downloading %s: %d of %d MiB", name, done >> 20, total >> 20)


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub; `progress` is called with (file, bytes done, bytes in all).

    What `progress` raises ends the download; what has come by then is kept and gone on with.
    `tries` failures that follow one another without a byte between them end it too.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    progress: Progress = told
    timeout_s: float = 30.0
    pause_s: float = 1.0
    tries: int = 5
    transport: httpx.BaseTransport | None = field(default=None, repr=False)

    def look(self, repository: str, revision: str, name: str) -> Remote | None:
        """One file of a repository, None when it has none of this name."""
        place = f"{repository}/resolve/{quote(revision, safe='')}/{quote(name)}"
        url = f"{self.url.rstrip('/')}/{place}"
        return self._patiently(repository, lambda client: _headed(self._head(client, url), url))

    def listing(self, repository: str, revision: str = "main") -> list[Remote] | None:
        """All files of a repository, None when the hub has none of this name."""
        return self._patiently(
            repository, lambda client: self._listed(client, repository, revision)
        )

    def download(self, remote: Remote, target: Path) -> Path:
        """`target`, whole and of the right hash; StackError when the hash is wrong.

        Raises StorageFull, and Unavailable when the hub cannot be reached for long.
        """
        part = target.with_name(f"{target.name}.{remote.tag[:12]}.part")
        self._patiently(
            target.name,
            lambda client: self._go_on(client, remote, part),
            lambda: part.stat().st_size if part.exists() else 0,
        )
        if not _is_right(part, remote):
            part.unlink()
            raise StackError(f"{target.name} does not have the hash that {self.url} announces.")
        return part.replace(target)

    def _patiently(
        self, what: str, attempt: Callable[[httpx.Client], T], come: Callable[[], int] = int
    ) -> T:
        """What `attempt` returns; tried again, more slowly while `come` does not grow."""
        failures, had = 0, come()
        while failures < self.tries:
            time.sleep(self.pause_s * failures)
            try:
                with self._client() as client:
                    return attempt(client)
            except httpx.InvalidURL:
                raise SettingsError("AI_STACK_HUB_URL is not a URL.") from None
            except httpx.RequestError as error:
                log.warning("%s: %s cannot be reached (%s)", what, self.url, type(error).__name__)
            except OSError as error:
                raise disk_failure(error) from error
            failures, had = 1 if come() > had else failures + 1, come()
        raise Unavailable(f"{what} cannot be downloaded from {self.url} now.")

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.Client(
            timeout=self.timeout_s,
            headers={**headers, "Accept-Encoding": "identity"},
            follow_redirects=True,
            transport=self.transport,
        )

    def _head(self, client: httpx.Client, url: str) -> httpx.Response:
        answer = client.head(url, follow_redirects=False)
        if answer.is_redirect and "x-linked-size" not in answer.headers:
            answer = client.head(url)
        _check(answer, url)
        return answer

    def _listed(self, client: httpx.Client, repository: str, revision: str) -> list[Remote] | None:
        root, quoted = self.url.rstrip("/"), quote(revision, safe="")
        page = f"{root}/api/models/{repository}/tree/{quoted}?recursive=true"
        found: list[Remote] = []
        for _ in range(_PAGES):
            answer = client.get(page)
            _check(answer, f"{root}/{repository}/resolve/")
            if answer.status_code == 404:
                return None
            found += _remotes(answer, f"{root}/{repository}/resolve/{quoted}")
            page = answer.links.get("next", {}).get("url", "")
            if not page.startswith(f"{root}/"):  # the token goes to no other place
                break
        return found

    def _go_on(self, client: httpx.Client, remote: Remote, part: Path) -> None:
        have = part.stat().st_size if part.exists() else 0
        if have < remote.size_bytes or not part.exists():
            self._stream(client, remote, part, have)
        if part.stat().st_size < remote.size_bytes:
            raise httpx.RemoteProtocolError("cut short")

    def _stream(self, client: httpx.Client, remote: Remote, part: Path, have: int) -> None:
        headers = {"Range": f"bytes={have}-"} if have else {}
        with client.stream("GET", remote.url, headers=headers) as answer:
            _check(answer, remote.url)
            if answer.status_code not in (200, 206):
                raise httpx.RemoteProtocolError(f"status {answer.status_code}")
            resumed = answer.headers.get("content-range", "").startswith(f"bytes {have}-")
            with part.open("ab" if have and resumed else "wb") as opened:
                for block in answer.iter_bytes():
                    opened.write(block)
                    if opened.tell() > remote.size_bytes:
                        break
                    self.progress(part.name.rsplit(".", 2)[0], opened.tell(), remote.size_bytes)
                opened.flush()
                os.fsync(opened.fileno())


def open_hub(settings: Settings, progress: Progress = told) -> Hub:
    """The hub that the settings name."""
    token = settings.huggingface_token
    return Hub(settings.hub_url, token.get_secret_value() if token else None, progress)


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check(answer: httpx.Response, url: str) -> None:
    """Refuse what no repetition would mend; httpx's error for what it may."""
    if answer.status_code in (401, 403):
        raise Forbidden(
            f"The hub does not show {_repository(url)}: either there is none of this name, or set "
            "HUGGING_FACE_HUB_TOKEN to a token that may see it, and accept the model's terms on "
            "its page where it has some."
        )
    if answer.status_code >= 400 and answer.status_code != 404:
        raise httpx.RemoteProtocolError(f"status {answer.status_code}")


def _remotes(answer: httpx.Response, root: str) -> Iterator[Remote]:
    """The files of one page of the API's tree; large ones are told by what they point at."""
    try:
        for entry in answer.json():
            if entry["type"] == "file":
                stored = entry.get("lfs") or entry
                url = f"{root}/{quote(entry['path'])}"
                yield Remote(url, str(stored["oid"]), int(stored["size"]), entry["path"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise httpx.RemoteProtocolError("not a listing of files") from None


def _repository(url: str) -> str:
    return "/".join(httpx.URL(url).path.partition("/resolve/")[0].split("/")[-2:])


def _headed(answer: httpx.Response, url: str) -> Remote | None:
    if answer.status_code == 404:
        return None
    headers = answer.headers
    tag = headers.get("x-linked-etag") or headers.get("etag", "")
    size = headers.get("x-linked-size") or headers.get("content-length", "")
    if not size.isdigit():
        raise httpx.RemoteProtocolError("no size")
    return Remote(url, tag.removeprefix("W/").strip('"'), int(size))


def _is_right(file: Path, remote: Remote) -> bool:
    if _SHA256.fullmatch(remote.tag):
        return sha256_of(file) == remote.tag
    content = file.read_bytes()
    if _SHA1.fullmatch(remote.tag):
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return blob.hexdigest() == remote.tag
    return len(content) == remote.size_bytes


def disk_failure(error: OSError) -> StorageFull | StackError:
    """What to raise for a file that could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageFull() if full else StackError("The model's folder cannot be written.")
