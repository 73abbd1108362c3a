"""Brings a model to the shelf: chosen, downloaded or copied, checked, and visible when whole."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ai_stack.errors import (
    Conflict,
    Forbidden,
    NotFound,
    StackError,
    StorageFull,
    Unavailable,
    Unsupported,
)
from ai_stack.hub import Hub, Remote, sha256_of
from ai_stack.weights.choice import Choice, choose
from ai_stack.weights.gguf import read_facts
from ai_stack.weights.lock import Busy, Give, held, kept
from ai_stack.weights.names import Source, file_name
from ai_stack.weights.quantizations import named_in
from ai_stack.weights.shelf import (
    MANIFEST,
    PLAN,
    Entry,
    Manifest,
    Model,
    Shelf,
    parts_of,
    read_manifest,
    written,
)

RESERVE_BYTES = 512 << 20
BLOCK = 4 << 20
LOCAL = (
    "Without a network, `ai-stack models pull ./file.gguf` takes a file that you bring, and "
    "LLAMA_CPP_DEFAULT_MODEL may be a file's path."
)


@dataclass(frozen=True, slots=True)
class Step:
    """How far a pull is: `text` is something to tell, otherwise bytes of `file` have come.

    `done_bytes` and `size_bytes` are of all files together.
    """

    stage: Literal["chosen", "waiting", "downloading", "done"]
    text: str = ""
    file: str = ""
    done_bytes: int = 0
    size_bytes: int = 0


Progress = Callable[[Step], None]


def pull(
    source: Source,
    shelf: Shelf,
    hub: Hub,
    progress: Progress = lambda _: None,
    *,
    give: Give = kept,
    wait: bool = True,
) -> Model:
    """The model of `source` on the shelf; downloads only what is not there.

    What breaks off is gone on with next time, and what `progress` raises breaks it off. `give`
    makes a path belong to whom it should. While another process pulls the same model, this one
    waits, or raises Conflict when it is not to `wait`.

    Raises NotFound, Forbidden and Unavailable for the hub, InvalidRequest for a quantization
    that is not there, StorageFull, StackError for a wrong hash, Unsupported for what is no GGUF.
    """
    try:
        choice = _chosen(source, hub)
    except Unavailable as error:
        raise Unavailable(f"{error.message} {LOCAL}") from error
    plan = _planned(source, choice)
    progress(Step("chosen", choice.told, size_bytes=choice.size_bytes))
    folder = _place(shelf, choice.repository, plan)
    with _alone(folder, progress, give, wait):
        if not (folder / MANIFEST).exists():
            _fetch(folder, plan, choice, hub, progress, give)
            _publish(folder, plan, give)
            _forget_older(shelf, folder, plan.quantization)
    progress(Step("done", done_bytes=choice.size_bytes, size_bytes=choice.size_bytes))
    return _model(shelf, folder)


def adopt(
    file: Path, shelf: Shelf, progress: Progress = lambda _: None, *, give: Give = kept
) -> Model:
    """A local file, all its parts with it, as a model of the shelf; the file stays where it is.

    Raises Unsupported for what cannot be served, StorageFull, StackError.
    """
    facts = read_facts(file)
    parts = parts_of(file)
    missing = next((part.name for part in parts if not part.is_file()), None)
    if missing is not None:
        raise Unsupported(f"{file.name} is one part of several, and {missing} is not beside it.")
    sizes = [part.stat().st_size for part in parts]
    entries = tuple(Entry(p.name, s, sha256_of(p)) for p, s in zip(parts, sizes, strict=True))
    name, quantization = file_name(file.stem), named_in(file.name) or facts.quantization
    names = (file.name, file.stem)
    plan = Manifest(None, name, names, quantization or "unknown", entries, _now())
    folder = _place(shelf, f"local/{name}", plan)
    with _alone(folder, progress, give, wait=True):
        if not (folder / MANIFEST).exists():
            _begin(folder, plan, give)
            _check_space(folder, sum(sizes))
            _copy(parts, folder, progress, give)
            _publish(folder, plan, give)
    progress(Step("done", done_bytes=sum(sizes), size_bytes=sum(sizes)))
    return _model(shelf, folder)


def _chosen(source: Source, hub: Hub) -> Choice:
    closed: Forbidden | None = None
    seen = False
    for repository in source.repositories:
        try:
            listing = hub.listing(repository, source.revision)
        except Forbidden as error:  # the hub says so of repositories that do not exist, too
            closed = error
            continue
        seen = seen or listing is not None
        if (choice := choose(repository, listing or (), source.quantization)) is not None:
            return choice
    if closed is not None and not seen:
        raise closed
    raise NotFound(_absent(source, hub, seen))


def _absent(source: Source, hub: Hub, seen: bool) -> str:
    if not seen:
        return f"{hub.url} has no repository {source.repositories[0]}."
    return (
        f"{' and '.join(source.repositories)} hold no GGUF files, which llama.cpp needs: name a "
        "repository that does, often one whose name ends with -GGUF."
    )


def _planned(source: Source, choice: Choice) -> Manifest:
    def entry(remote: Remote) -> Entry:
        return Entry(remote.name, remote.size_bytes, remote.tag)

    return Manifest(
        repository=choice.repository,
        asked=source.asked,
        names=tuple(dict.fromkeys((*source.names, choice.repository))),
        quantization=choice.quantization,
        files=tuple(map(entry, choice.all_files)),
        pulled_at=_now(),
        projector=None if choice.projector is None else choice.projector.name,
    )


def _place(shelf: Shelf, repository: str, plan: Manifest) -> Path:
    quantization = plan.quantization or "only"
    return shelf.hub / repository.replace("/", "--") / f"{quantization}@{plan.content}"


@contextmanager
def _alone(folder: Path, progress: Progress, give: Give, wait: bool) -> Iterator[None]:
    """Hold a folder's lock, telling when somebody else has it."""
    try:
        _make(folder.parents[1], give)
        with held(folder, wait=False, give=give):
            yield
            return
    except Busy:
        if not wait:
            raise Conflict("This model is being pulled at this moment.") from None
    progress(Step("waiting", "Another process pulls this model; waiting for it."))
    with held(folder, wait=True, give=give):
        yield


def _fetch(
    folder: Path, plan: Manifest, choice: Choice, hub: Hub, progress: Progress, give: Give
) -> None:
    _begin(folder, plan, give)
    total = choice.size_bytes
    _check_space(folder, total - _come(folder))
    before = 0
    for remote in choice.all_files:
        target = folder / remote.name
        if not target.exists():
            told = _counted(folder, before, total, progress, give)
            _download(replace(hub, progress=told), remote, target)
            give(target)
        before += remote.size_bytes


def _counted(
    folder: Path, before: int, total: int, progress: Progress, give: Give
) -> Callable[[str, int, int], None]:
    """Progress of one file as progress of all of them."""
    given: set[Path] = set()

    def told(file: str, done: int, _: int) -> None:
        for part in set(folder.glob("*.part")) - given if not given else ():
            given.add(part)
            give(part)
        progress(Step("downloading", "", file, before + done, total))

    return told


def _download(hub: Hub, remote: Remote, target: Path) -> None:
    try:
        hub.download(remote, target)
    except Unavailable as error:
        kept_bytes = _come(target.parent)
        raise Unavailable(
            f"{error.message} {kept_bytes >> 20} MiB are here and stay: pull again to go on. "
            f"{LOCAL}"
        ) from error
    except StackError:
        if not _come(target.parent):
            shutil.rmtree(target.parent)
        raise


def _begin(folder: Path, plan: Manifest, give: Give) -> None:
    """Make the folder and write down what it is to hold."""
    _make(folder, give)
    _write(folder / PLAN, written(plan))
    give(folder / PLAN)


def _make(folder: Path, give: Give) -> None:
    try:
        for path in (*reversed(folder.parents), folder):
            if not path.exists():
                path.mkdir()
                give(path)
    except OSError as error:
        raise StackError(f"{folder} cannot be made: {error.strerror}.") from None


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + RESERVE_BYTES > free:
        raise StorageFull(
            f"The model needs {needed / (1 << 30):.2f} GiB more, and {free / (1 << 30):.2f} GiB "
            f"are free on the disk of {folder.parents[2]}. Free some space, or choose a smaller "
            "quantization. Nothing was downloaded."
        )


def _come(folder: Path) -> int:
    """Bytes of a model that are here already."""
    return sum(f.stat().st_size for f in folder.iterdir() if f.suffix in (".gguf", ".part"))


def _copy(parts: Sequence[Path], folder: Path, progress: Progress, give: Give) -> None:
    done, total = 0, sum(part.stat().st_size for part in parts)
    for part in parts:
        scratch = folder / f"{part.name}.part"
        try:
            with part.open("rb") as read, scratch.open("wb") as copy:
                while block := read.read(BLOCK):
                    copy.write(block)
                    done += len(block)
                    progress(Step("downloading", "", part.name, done, total))
                copy.flush()
                os.fsync(copy.fileno())
        except OSError as error:
            raise StackError(f"{part} cannot be copied: {error.strerror}.") from None
        give(scratch.replace(folder / part.name))


def _publish(folder: Path, plan: Manifest, give: Give) -> None:
    """Let the shelf show the model: the plan, with what its file says, becomes the manifest."""
    try:
        facts = read_facts(folder / plan.files[0].name)
    except Unsupported:
        shutil.rmtree(folder)
        raise
    _write(folder / PLAN, written(replace(plan, facts=facts, pulled_at=_now())))
    give(folder / PLAN)
    (folder / PLAN).replace(folder / MANIFEST)
    _sync(folder)


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{path.name}.new")
    with scratch.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    scratch.replace(path)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _forget_older(shelf: Shelf, folder: Path, quantization: str) -> None:
    """Delete what the repository held before under this quantization."""
    for other in folder.parent.glob(f"{quantization or 'only'}@*"):
        if other != folder:
            try:
                shelf.clear(other)
            except Conflict:
                continue


def _model(shelf: Shelf, folder: Path) -> Model:
    found = next((model for model in shelf.all() if model.file.parent == folder), None)
    if found is None:
        manifest = read_manifest(folder / MANIFEST)
        whole = "its manifest is damaged" if manifest is None else "a file of it is gone"
        raise StackError(f"{folder} is not whole: {whole}. Remove that folder and pull again.")
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
