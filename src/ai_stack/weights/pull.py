"""Brings a model to the shelf: chosen, downloaded or copied, checked, and visible when whole."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ai_stack.disk import sync
from ai_stack.errors import (
    Conflict,
    Forbidden,
    NotFound,
    StackError,
    StorageFull,
    Unavailable,
    Unsupported,
)
from ai_stack.hub import Hub, Remote, disk_failure, sha256_of
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

    Raises NotFound for a repository or quantization that is not there, Forbidden and Unavailable
    for the hub, StorageFull, StackError for a wrong hash, Unsupported for what is no GGUF.
    """
    return _Delivery(shelf, progress, give, wait).fetch(source, hub)


def adopt(
    file: Path, shelf: Shelf, progress: Progress = lambda _: None, *, give: Give = kept
) -> Model:
    """A local file, all its parts with it, copied to the shelf; the file stays where it is.

    Raises Unsupported for what cannot be served, StorageFull, StackError.
    """
    return _Delivery(shelf, progress, give, wait=True).copy(file)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """Brings one model to a shelf."""

    shelf: Shelf
    progress: Progress
    give: Give
    wait: bool

    def fetch(self, source: Source, hub: Hub) -> Model:
        try:
            choice = _chosen(source, hub)
        except Unavailable as error:
            raise Unavailable(f"{error.message} {LOCAL}") from error
        plan, size = _planned(source, choice), choice.size_bytes
        self.progress(Step("chosen", choice.told, size_bytes=size))
        folder = self._place(choice.repository, plan)
        with self._alone(folder):
            if self._found(folder) is None:
                self._begin(folder, plan, size)
                self._download(folder, choice, hub)
                self._publish(folder, plan)
                self._forget_older(folder)
        self.progress(Step("done", done_bytes=size, size_bytes=size))
        return self._there(folder)

    def copy(self, file: Path) -> Model:
        plan = _described(file)
        size = sum(entry.size_bytes for entry in plan.files)
        folder = self._place(f"local/{plan.asked}", plan)
        with self._alone(folder):
            if self._found(folder) is None:
                self._begin(folder, plan, size)
                self._copy(folder, parts_of(file), size)
                self._publish(folder, plan)
        self.progress(Step("done", done_bytes=size, size_bytes=size))
        return self._there(folder)

    def _found(self, folder: Path) -> Model | None:
        return next((m for m in self.shelf.all() if m.file.parent == folder), None)

    def _there(self, folder: Path) -> Model:
        if (found := self._found(folder)) is None:
            raise StackError(f"{folder} was removed while it was being pulled.")
        return found

    def _place(self, repository: str, plan: Manifest) -> Path:
        name = f"{plan.quantization or 'only'}@{plan.content}"
        return self.shelf.hub / repository.replace("/", "--") / name

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        """Hold a folder's lock, telling when somebody else has it."""
        self._make(self.shelf.hub)
        with ExitStack() as stack:
            try:
                stack.enter_context(held(folder, wait=False, give=self.give))
            except Busy:
                if not self.wait:
                    raise Conflict("This model is being pulled at this moment.") from None
                self.progress(Step("waiting", "Another process pulls this model; waiting for it."))
                stack.enter_context(held(folder, wait=True, give=self.give))
            except OSError as error:
                raise disk_failure(error) from error
            yield

    def _make(self, folder: Path) -> None:
        try:
            self.shelf.folder.parent.mkdir(parents=True, exist_ok=True)
            for path in (*reversed(folder.parents), folder):
                if not path.exists():
                    path.mkdir(exist_ok=True)  # another pull may have made it since
                    self.give(path)
        except OSError as error:
            raise StackError(f"{folder} cannot be made: {error.strerror}.") from None

    def _begin(self, folder: Path, plan: Manifest, size: int) -> None:
        """Make the folder, write down what it is to hold, and see that there is room for it."""
        _check_space(self.shelf.hub, size - (_come(folder) if folder.is_dir() else 0))
        self._make(folder)
        self._plan(folder, plan)

    def _plan(self, folder: Path, plan: Manifest) -> None:
        _write(folder / PLAN, written(plan))
        self.give(folder / PLAN)

    def _download(self, folder: Path, choice: Choice, hub: Hub) -> None:
        before = 0
        for remote in choice.all_files:
            target = folder / remote.name
            if not target.exists():
                told = self._counted(folder, before, choice.size_bytes)
                _download(replace(hub, progress=told), remote, target)
                self.give(target)
            before += remote.size_bytes

    def _counted(self, folder: Path, before: int, total: int) -> Callable[[str, int, int], None]:
        """Progress of one file as progress of all of them."""

        unowned = True

        def told(file: str, done: int, _: int) -> None:
            nonlocal unowned
            for part in folder.glob(f"{file}.*.part") if unowned else ():
                self.give(part)
            unowned = False
            self.progress(Step("downloading", "", file, before + done, total))

        return told

    def _copy(self, folder: Path, parts: Sequence[Path], total: int) -> None:
        done = 0
        for part in parts:
            for come in _copied(part, folder / f"{part.name}.part"):
                done += come
                self.progress(Step("downloading", "", part.name, done, total))
            self.give((folder / f"{part.name}.part").replace(folder / part.name))

    def _publish(self, folder: Path, plan: Manifest) -> None:
        """Let the shelf show the model: the plan, with what its file says, is the manifest."""
        try:
            facts = read_facts(folder / plan.files[0].name)
        except Unsupported:
            shutil.rmtree(folder)
            raise
        self._plan(folder, replace(plan, facts=facts, pulled_at=_now()))
        (folder / PLAN).replace(folder / MANIFEST)
        sync(folder)

    def _forget_older(self, folder: Path) -> None:
        """Delete what the repository held before under this quantization."""
        for other in folder.parent.glob(f"{folder.name.partition('@')[0]}@*"):
            if other != folder:
                with suppress(Conflict):
                    self.shelf.clear(other)


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
    return Manifest(
        repository=choice.repository,
        asked=source.asked,
        names=tuple(dict.fromkeys((*source.names, choice.repository))),
        quantization=choice.quantization,
        files=tuple(Entry(r.name, r.size_bytes, r.tag) for r in choice.all_files),
        pulled_at=_now(),
        projector=None if choice.projector is None else choice.projector.name,
    )


def _described(file: Path) -> Manifest:
    """The plan for a local file and its parts."""
    facts, parts = read_facts(file), parts_of(file)
    missing = next((part.name for part in parts if not part.is_file()), None)
    if missing is not None:
        raise Unsupported(f"{file.name} is one part of several, and {missing} is not beside it.")
    return Manifest(
        repository=None,
        asked=file_name(file.stem),
        names=(file.name, file.stem),
        quantization=named_in(file.name) or facts.quantization or "unknown",
        files=tuple(Entry(part.name, part.stat().st_size, sha256_of(part)) for part in parts),
        pulled_at=_now(),
    )


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


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + RESERVE_BYTES > free:
        raise StorageFull(
            f"The model needs {needed / (1 << 30):.2f} GiB more, and {free / (1 << 30):.2f} GiB "
            f"are free on the disk of {folder}. Free some space, or choose a smaller "
            "quantization. Nothing was downloaded."
        )


def _come(folder: Path) -> int:
    """Bytes of a model that are here already."""
    return sum(f.stat().st_size for f in folder.iterdir() if f.suffix in (".gguf", ".part"))


def _copied(part: Path, scratch: Path) -> Iterator[int]:
    """Copy a file, telling the bytes of each block."""
    try:
        with part.open("rb") as read, scratch.open("wb") as copy:
            while block := read.read(BLOCK):
                copy.write(block)
                yield len(block)
            copy.flush()
            os.fsync(copy.fileno())
    except OSError as error:
        raise disk_failure(error) from error


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{path.name}.new")
    with scratch.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    scratch.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
