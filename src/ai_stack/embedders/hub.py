"""Models from a hub, by repository: fetched once and kept. It knows no engine."""

from functools import partial
from pathlib import Path

import orjson

from ai_stack.embedders import cross_encoders
from ai_stack.embedders.cross_encoders import CrossEncoder
from ai_stack.embedders.descriptions import Description, describe
from ai_stack.embedders.weights import Fetch, Source, Weights, sha256_of
from ai_stack.errors import EmbedderUnavailable, StackError, Unavailable
from ai_stack.hub import Hub, open_hub
from ai_stack.settings import load_settings


def fetch(hub: Hub, description: Source, cache: Path) -> Weights:
    """The model's files in `cache`; asks the hub only for what is not whole there."""
    assert description.repository is not None
    name = f"{description.repository}@{description.revision}".replace("/", "--")
    folder = cache / "hub" / name
    if (kept := _kept(folder)) is not None:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    try:
        onnx = _first(hub, description, folder)
        tokenizer = _file(hub, description, "tokenizer.json", folder)
    except Unavailable as error:
        raise _out_of_reach(hub, description) from error
    if onnx is None or tokenizer is None:
        raise StackError(
            f"{description.repository} has no {' or '.join(description.files)} "
            "beside a tokenizer.json."
        )
    return _keep(folder, onnx, tokenizer)


def _first(hub: Hub, description: Source, folder: Path) -> Path | None:
    for name in description.files:
        if (found := _file(hub, description, name, folder)) is not None:
            return found
    return None


def _file(hub: Hub, description: Source, name: str, folder: Path) -> Path | None:
    """The file in `folder`, None when the repository has none of this name."""
    assert description.repository is not None
    remote = hub.look(description.repository, description.revision, name)
    return None if remote is None else hub.download(remote, folder / name.replace("/", "--"))


def _out_of_reach(hub: Hub, description: Source) -> EmbedderUnavailable:
    return EmbedderUnavailable(
        f"{description.repository} cannot be downloaded from {hub.url} now. Without a "
        'network, put model.onnx and tokenizer.json in a folder and name it as "folder" in '
        f"the file of {description.setting}."
    )


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


def configured(name: str) -> tuple[Description, Fetch]:
    """The description of `name` and how to fetch it, as the settings say."""
    settings = load_settings()
    description = describe(name, settings.embedding_description)
    return description, partial(fetch, open_hub(settings))


def configured_cross_encoder(name: str) -> tuple[CrossEncoder, Fetch]:
    """The same of a reranker."""
    settings = load_settings()
    description = cross_encoders.describe(name, settings.rerank_description)
    return description, partial(fetch, open_hub(settings))
