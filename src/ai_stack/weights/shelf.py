"""The shelf: which models lie in the folder of models, each under an id that clients use.

hub/<owner>--<repository>/<quantization>@<content>/   files and manifest.json, when whole
hub/…/plan.json                                       the same before it is whole
*.gguf                                                put there by hand
"""

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from ai_stack.errors import Conflict, ModelNotFound, StackError, Unsupported
from ai_stack.weights.gguf import Facts, Kind, read_facts
from ai_stack.weights.lock import Busy, held
from ai_stack.weights.names import file_name, short_name
from ai_stack.weights.quantizations import named_in

FOLDER = "llama-cpp-models"
MANIFEST, PLAN = "manifest.json", "plan.json"

_PART = re.compile(r"-(\d{5})-of-(\d{5})$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a model: its name in the folder, its size and its sha256."""

    name: str
    size_bytes: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder of the shelf holds, or will hold; `files` are in the order of their parts."""

    repository: str | None
    asked: str
    names: tuple[str, ...]
    quantization: str
    files: tuple[Entry, ...]
    pulled_at: str
    projector: str | None = None
    facts: Facts | None = None

    @property
    def content(self) -> str:
        """Changes when one of the files does."""
        said = "".join(f"{entry.name}{entry.sha256}" for entry in self.files)
        return hashlib.sha256(said.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be served: its id, the first of its files, and what that one says.

    `revision` changes when other weights lie here under the same id; `projector` is the file
    that lets it see images; `names` are what it may be called besides.
    """

    id: str
    file: Path
    size_bytes: int
    facts: Facts
    quantization: str
    repository: str | None = None
    revision: str = ""
    projector: Path | None = None
    names: tuple[str, ...] = ()
    pulled_at: str = ""

    @property
    def architecture(self) -> str:
        return self.facts.architecture

    @property
    def context_length(self) -> int:
        """Tokens that it was trained for."""
        return self.facts.context_length

    @property
    def layers(self) -> int:
        return self.facts.layers

    @property
    def kind(self) -> Kind:
        return self.facts.kind


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A download that has not come to its end."""

    repository: str | None
    quantization: str
    folder: Path
    done_bytes: int
    size_bytes: int
    names: tuple[str, ...] = ()


class Shelf:
    """The models of one folder; it is read anew by every call, so it may change at any time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[tuple[Path, int, int], Facts] = {}

    @property
    def hub(self) -> Path:
        return self.folder / "hub"

    def all(self) -> list[Model]:
        """What can be served, the one that came first first; damaged files are left out."""
        found = sorted([*self._pulled(), *self._loose()], key=lambda m: (m.pulled_at, str(m.file)))
        return list(_identified(_newest(found)))

    def find(self, name: str) -> Model | None:
        """By id, repository, another of its names, or the path of a .gguf file anywhere.

        Raises Unsupported for a file that is there but cannot be served.
        """
        if is_path(name):
            return self._at(Path(name).expanduser())
        wanted = name.lower()
        models = self.all()
        by_id = next((model for model in models if model.id == wanted), None)
        return by_id or next((m for m in models if wanted in m.names), None)

    def get(self, name: str) -> Model:
        """As `find`; raises ModelNotFound."""
        model = self.find(name)
        if model is None:
            raise ModelNotFound(
                f"{name} is not here: `ai-stack models list` shows what is, and "
                f"`ai-stack models pull {name}` brings it where a hub has it."
            )
        return model

    def remove(self, name: str) -> Model:
        """Delete a model's files; raises ModelNotFound, or Conflict while it is being pulled."""
        model = self.get(name)
        inside = self.folder.resolve() in model.file.resolve().parents
        if not inside:
            raise Conflict(f"{model.file} does not lie in {self.folder}: delete it yourself.")
        folder = model.file.parent
        if (folder / MANIFEST).exists():
            self.clear(folder)
        else:
            for part in parts_of(model.file):
                part.unlink(missing_ok=True)
        return model

    def discard(self, name: str) -> list[Unfinished]:
        """Delete what has come of downloads of this name that did not end."""
        found = [each for each in self.unfinished() if name.lower() in each.names]
        for each in found:
            self.clear(each.folder)
        return found

    def clear(self, folder: Path) -> None:
        """Delete one folder of the shelf, whole or not; its manifest goes first."""
        try:
            with held(folder, wait=False):
                (folder / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(folder)
        except Busy:
            raise Conflict("It is being pulled at this moment.") from None
        except OSError as error:
            raise StackError(f"{folder} cannot be removed: {error.strerror}.") from None
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()

    def unfinished(self) -> list[Unfinished]:
        """Downloads that were broken off or are under way."""
        return [
            _unfinished(plan.parent, manifest)
            for plan in sorted(self.hub.glob(f"*/*/{PLAN}"))
            if (manifest := read_manifest(plan)) is not None
        ]

    def _pulled(self) -> Iterator[Model]:
        for path in self.hub.glob(f"*/*/{MANIFEST}"):
            manifest = read_manifest(path)
            if manifest is not None and (model := _pulled_model(path.parent, manifest)) is not None:
                yield model

    def _loose(self) -> Iterator[Model]:
        for file in self.folder.glob("*.gguf"):
            match = _PART.search(file.stem)
            if match is None or int(match[1]) == 1:
                try:
                    yield self._described(file)
                except Unsupported:
                    continue

    def _at(self, path: Path) -> Model | None:
        if not path.is_file():
            return None
        whole = path.resolve()
        known = next((model for model in self.all() if model.file.resolve() == whole), None)
        return known or self._described(path.absolute())

    def _described(self, file: Path) -> Model:
        """A file that no manifest tells about; its header is read once for each state of it."""
        parts = parts_of(file)
        missing = next((part.name for part in parts if not part.is_file()), None)
        if missing is not None:
            raise Unsupported(f"{file.name} cannot be served: its part {missing} is not there.")
        states = [part.stat() for part in parts]
        key = (file, states[0].st_size, states[0].st_mtime_ns)
        if key not in self._seen:
            self._seen[key] = read_facts(file)
        facts = self._seen[key]
        said = "".join(f"{state.st_size}.{state.st_mtime_ns}." for state in states)
        return Model(
            id=file_name(file.stem),
            file=file,
            size_bytes=sum(state.st_size for state in states),
            facts=facts,
            quantization=named_in(file.name) or facts.quantization,
            revision=hashlib.sha256(f"{file.name}{said}".encode()).hexdigest()[:12],
            names=(file.name.lower(), file.stem.lower(), str(file).lower()),
            pulled_at=_timed(states[0].st_mtime),
        )


def is_path(name: str) -> bool:
    """Whether a name is the path of a GGUF file rather than a model's."""
    return name.lower().endswith(".gguf") or name.startswith(("/", "./", "../", "~"))


def parts_of(file: Path) -> list[Path]:
    """All parts of a model, by the name of its first."""
    match = _PART.search(file.stem)
    if match is None:
        return [file]
    stem, count = file.stem[: match.start()], int(match[2])
    return [file.with_name(f"{stem}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]


def read_manifest(path: Path) -> Manifest | None:
    """None for a file that is none."""
    try:
        return TypeAdapter(Manifest).validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def written(manifest: Manifest) -> bytes:
    return orjson.dumps(manifest, option=orjson.OPT_INDENT_2)


def _pulled_model(folder: Path, manifest: Manifest) -> Model | None:
    """A model as its manifest tells; None when its files are not what it says."""
    if manifest.facts is None or not all(_present(folder, entry) for entry in manifest.files):
        return None
    projector = manifest.projector
    return Model(
        id=_plain_id(manifest),
        file=folder / manifest.files[0].name,
        size_bytes=sum(entry.size_bytes for entry in manifest.files),
        facts=manifest.facts,
        quantization=manifest.quantization or manifest.facts.quantization,
        repository=manifest.repository,
        revision=manifest.content,
        projector=None if projector is None else folder / projector,
        names=tuple(name.lower() for name in manifest.names),
        pulled_at=manifest.pulled_at,
    )


def _present(folder: Path, entry: Entry) -> bool:
    try:
        return (folder / entry.name).stat().st_size == entry.size_bytes
    except OSError:
        return False


def _newest(models: Sequence[Model]) -> list[Model]:
    """Of several contents of one repository and quantization, the one that came last."""
    latest = {_same(model): model for model in models}
    return [model for model in models if latest[_same(model)] is model]


def _same(model: Model) -> tuple[str, str]:
    place = model.repository or str(model.file)
    return place, model.quantization


def _identified(models: Sequence[Model]) -> Iterator[Model]:
    """Each under an id of its own: the plain one is the first one's, and stays it."""
    taken: set[str] = set()
    for model in models:
        quantized = f"{model.id}-{model.quantization.lower()}"
        owner = (model.repository or "local").split("/")[0].lower()
        choices = [model.id, quantized, f"{owner}/{quantized}", f"{quantized}-{model.revision}"]
        id = next((choice for choice in choices if choice not in taken), str(model.file))
        taken.add(id)
        more = (f"{name}:{model.quantization.lower()}" for name in (model.id, *model.names))
        yield replace(model, id=id, names=(*model.names, quantized, *more))


def _unfinished(folder: Path, manifest: Manifest) -> Unfinished:
    have = [f for f in folder.iterdir() if f.suffix in (".part", ".gguf") and f.is_file()]
    return Unfinished(
        manifest.repository,
        manifest.quantization,
        folder,
        done_bytes=sum(file.stat().st_size for file in have),
        size_bytes=sum(entry.size_bytes for entry in manifest.files),
        names=(_plain_id(manifest), *(name.lower() for name in manifest.names)),
    )


def _plain_id(manifest: Manifest) -> str:
    return short_name(manifest.repository) if manifest.repository else manifest.asked


def _timed(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
