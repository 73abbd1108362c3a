"""Models from a hub, by repository: resumed, checked by hash, kept. It knows no engine."""

import errno
import hashlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import orjson

from ai_stack.embedders import cross_encoders
from ai_stack.embedders.cross_encoders import CrossEncoder
from ai_stack.embedders.descriptions import Description, describe
from ai_stack.embedders.weights import Fetch, Source, Weights, sha256_of
from ai_stack.errors import EmbedderUnavailable, StackError, StorageFull
from ai_stack.settings import Settings, load_settings

Progress = Callable[[str, int, int], None]

_SHA256 = re.compile("[0-9a-f]{64}")
_SHA1 = re.compile("[0-9a-f]{40}")
_PART = 1 << 20

log = logging.getLogger("ai_stack.embedder")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as the hub announces it; `tag` is the sha256 of a large file, else git's sha1."""

    url: str
    tag: str
    size_bytes: int


def told(name: str, done: int, total: int) -> None:
    log.info("downloading %s: %d of %d MiB", name, done >> 20, total >> 20)


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub in Hugging Face's form; `progress` is called with (file, bytes done, bytes in all)."""

    url: str
    token: str | None = None
    progress: Progress = told
    timeout_s: float = 30.0
    pause_s: float = 1.0
    tries: int = 5
    transport: httpx.BaseTransport | None = field(default=None, repr=False)

    def fetch(self, description: Source, cache: Path) -> Weights:
        """The model's files in `cache`; asks the hub only for what is not whole there."""
        assert description.repository is not None
        name = f"{description.repository}@{description.revision}".replace("/", "--")
        folder = cache / "hub" / name
        if (kept := _kept(folder)) is not None:
            return kept
        folder.mkdir(parents=True, exist_ok=True)
        with self._client() as client:
            onnx = self._first(client, description, folder)
            tokenizer = self._file(client, description, "tokenizer.json", folder)
        if onnx is None or tokenizer is None:
            raise StackError(
                f"{description.repository} has no {' or '.join(description.files)} "
                "beside a tokenizer.json."
            )
        return _keep(folder, onnx, tokenizer)

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.Client(
            timeout=self.timeout_s,
            headers={**headers, "Accept-Encoding": "identity"},
            follow_redirects=True,
            transport=self.transport,
        )

    def _first(self, client: httpx.Client, description: Source, folder: Path) -> Path | None:
        for name in description.files:
            if (found := self._file(client, description, name, folder)) is not None:
                return found
        return None

    def _file(
        self, client: httpx.Client, description: Source, name: str, folder: Path
    ) -> Path | None:
        """The file in `folder`, None when the repository has none of this name."""
        target = folder / name.replace("/", "--")
        for attempt in range(self.tries):
            try:
                remote = self._remote(client, description, name)
                return None if remote is None else self._whole(client, remote, target)
            except httpx.TransportError as error:
                log.warning("%s of %s: %s", name, description.repository, type(error).__name__)
                time.sleep(self.pause_s * attempt)
            except OSError as error:
                raise _disk(error) from error
        raise EmbedderUnavailable(
            f"{description.repository} cannot be downloaded from {self.url} now. Without a "
            'network, put model.onnx and tokenizer.json in a folder and name it as "folder" in '
            f"the file of {description.setting}."
        )

    def _remote(self, client: httpx.Client, description: Source, name: str) -> Remote | None:
        place = f"{description.repository}/resolve/{quote(description.revision, safe='')}/{name}"
        url = f"{self.url.rstrip('/')}/{place}"
        answer = client.head(url, follow_redirects=False)
        if answer.is_redirect and "x-linked-size" not in answer.headers:
            answer = client.head(url)
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise StackError(
                f"The hub does not show {description.repository} to this token: "
                "see HUGGING_FACE_HUB_TOKEN."
            )
        if answer.status_code >= 400:
            raise httpx.RemoteProtocolError(f"status {answer.status_code}")
        headers = answer.headers
        tag = headers.get("x-linked-etag") or headers.get("etag", "")
        size = headers.get("x-linked-size") or headers.get("content-length", "")
        if not size.isdigit():
            raise httpx.RemoteProtocolError("no size")
        return Remote(url, tag.removeprefix("W/").strip('"'), int(size))

    def _whole(self, client: httpx.Client, remote: Remote, target: Path) -> Path:
        part = target.with_name(f"{target.name}.{remote.tag[:12]}.part")
        self._download(client, remote, part)
        if part.stat().st_size < remote.size_bytes:
            raise httpx.RemoteProtocolError("cut short")
        if not _is_right(part, remote):
            part.unlink()
            raise StackError(f"{target.name} does not have the hash that {self.url} announces.")
        return part.replace(target)

    def _download(self, client: httpx.Client, remote: Remote, part: Path) -> None:
        have = part.stat().st_size if part.exists() else 0
        if have >= remote.size_bytes > 0:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        with client.stream("GET", remote.url, headers=headers) as answer:
            if answer.status_code not in (200, 206):
                raise httpx.RemoteProtocolError(f"status {answer.status_code}")
            resumed = answer.headers.get("content-range", "").startswith(f"bytes {have}-")
            with part.open("ab" if have and resumed else "wb") as opened:
                for block in answer.iter_bytes(_PART):
                    opened.write(block)
                    if opened.tell() > remote.size_bytes:
                        break
                    self.progress(part.name.rsplit(".", 2)[0], opened.tell(), remote.size_bytes)


def _is_right(file: Path, remote: Remote) -> bool:
    if _SHA256.fullmatch(remote.tag):
        return sha256_of(file) == remote.tag
    content = file.read_bytes()
    if _SHA1.fullmatch(remote.tag):
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return blob.hexdigest() == remote.tag
    return len(content) == remote.size_bytes


def _kept(folder: Path) -> Weights | None:
    try:
        manifest: dict[str, str] = orjson.loads((folder / "manifest.json").read_bytes())
        if any(sha256_of(folder / name) != sha256 for name, sha256 in manifest.items()):
            return None
    except (OSError, orjson.JSONDecodeError):
        return None
    onnx = next(name for name in manifest if name != "tokenizer.json")
    return Weights(folder / onnx, folder / "tokenizer.json", manifest[onnx])


def _keep(folder: Path, onnx: Path, tokenizer: Path) -> Weights:
    manifest = {file.name: sha256_of(file) for file in (onnx, tokenizer)}
    scratch = folder / "manifest.json.part"
    scratch.write_bytes(orjson.dumps(manifest))
    scratch.replace(folder / "manifest.json")
    return Weights(onnx, tokenizer, manifest[onnx.name])


def _disk(error: OSError) -> StorageFull | StackError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageFull() if full else StackError("The model's folder cannot be written.")


def configured(name: str) -> tuple[Description, Fetch]:
    """The description of `name` and how to fetch it, as the settings say."""
    settings = load_settings()
    return describe(name, settings.embedding_description), _hub(settings).fetch


def configured_cross_encoder(name: str) -> tuple[CrossEncoder, Fetch]:
    """The same of a reranker."""
    settings = load_settings()
    return cross_encoders.describe(name, settings.rerank_description), _hub(settings).fetch


def _hub(settings: Settings) -> Hub:
    token = settings.huggingface_token
    return Hub(settings.hub_url, token.get_secret_value() if token else None)
