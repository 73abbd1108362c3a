"""The watched folder, on a real PostgreSQL."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ai_stack.errors import NotFound
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal
from ai_stack.services import folders, places
from ai_stack.services.watching import Watch, Watching
from ai_stack.stack import Stack

ME = Principal()


class Folder:
    """A watched folder, and looks at it when a test wants them."""

    def __init__(self, stack: Stack, root: Path) -> None:
        self.stack = stack
        self.root = root
        self.watching = Watching(stack.database, stack.runs, stack.watching.imports, root, 0.01)
        self.watch = Watch(self.watching)

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    async def follow(self) -> None:
        """What was done before is old by now."""
        await self.watch.look()
        await self.watch.look()

    async def texts(self) -> dict[str, str]:
        page = await self.stack.documents.page(ME, limit=1000)
        return {
            d.id.removeprefix("imports/"): d.content
            for d in page.items
            if d.id.startswith("imports/")
        }

    async def runs(self) -> int:
        return len((await self.stack.runs.page(ME, kind="watch", limit=1000)).items)

    async def files(self) -> list[tuple[str, str]]:
        """(path, state) of the last run."""
        run = (await self.stack.runs.page(ME, kind="watch", limit=1)).items[0]
        page = await self.stack.runs.files(ME, run.id, limit=1000)
        return sorted((f.path, f.state) for f in page.items)


@pytest.fixture
async def folder(stack: Stack, tmp_path: Path) -> AsyncIterator[Folder]:
    root = tmp_path / "imports"
    root.mkdir()
    made = Folder(stack, root)
    yield made
    for file in root.rglob("*"):
        if not file.is_dir():
            file.unlink()
    await made.follow()
    assert await made.texts() == {}


async def test_files_come_change_and_go(folder: Folder) -> None:
    folder.write("a.md", "# A\n")
    folder.write("deep/er/b.md", "# B\n")
    await folder.follow()
    assert await folder.texts() == {"a.md": "# A\n", "deep/er/b.md": "# B\n"}
    made = await folder.stack.documents.get(ME, "imports/a.md")
    assert (made.metadata["media_type"], made.metadata["source"]) == ("text/markdown", "folder")
    runs = await folder.runs()
    await folder.follow()
    assert await folder.runs() == runs
    folder.write("a.md", "# A, again\n")
    await folder.follow()
    assert (await folder.texts())["a.md"] == "# A, again\n"
    assert await folder.files() == [("a.md", "updated")]
    (folder.root / "a.md").unlink()
    await folder.follow()
    assert await folder.texts() == {"deep/er/b.md": "# B\n"}
    assert await folder.files() == [("a.md", "deleted")]


async def test_a_file_under_way_is_left_alone(folder: Folder) -> None:
    file = folder.write("slow.md", "# Sl")
    await folder.watch.look()
    with file.open("a") as more:
        more.write("ow\n")
    await folder.watch.look()
    assert await folder.texts() == {}
    await folder.watch.look()
    assert await folder.texts() == {"slow.md": "# Slow\n"}


async def test_a_renamed_file_keeps_its_document(folder: Folder) -> None:
    file = folder.write("old.md", "# The same\n")
    await folder.follow()
    before = await folder.stack.documents.get(ME, "imports/old.md")
    file.rename(folder.root / "new.md")
    await folder.follow()
    after = await folder.stack.documents.get(ME, "imports/new.md")
    assert after.uuid == before.uuid
    assert after.metadata["path"] == "new.md"
    assert await folder.files() == [("new.md", "updated")]
    with pytest.raises(NotFound):
        await folder.stack.documents.get(ME, "imports/old.md")


async def test_only_files_of_the_folder_are_followed(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("# Secret\n")
    (folder.root / "leak.md").symlink_to(tmp_path / "secret.md")
    (folder.root / "out").symlink_to(tmp_path)
    (folder.root / "loop").symlink_to(folder.root)
    (folder.root / "round.md").symlink_to("robin.md")
    (folder.root / "robin.md").symlink_to("round.md")
    (folder.root / "inside.md").symlink_to(folder.write("real.md", "# Real\n"))
    os.mkfifo(folder.root / "pipe.md")
    for name in (".hidden.md", "draft.md~", "load.part", ".git/config.md", "~$office.docx"):
        folder.write(name, "# Not me\n")
    await folder.follow()
    assert set(await folder.texts()) == {"real.md", "inside.md"}


async def test_a_broken_file_is_told_once_until_it_changes(folder: Folder) -> None:
    folder.write("bad.pdf", b"%PDF-1.7 nonsense")
    await folder.follow()
    assert await folder.files() == [("bad.pdf", "failed")]
    runs = await folder.runs()
    await folder.follow()
    await folder.follow()
    assert await folder.runs() == runs
    (folder.root / "bad.pdf").unlink()
    folder.write("bad.md", "# Well\n")
    await folder.follow()
    assert set(await folder.texts()) == {"bad.md"}


async def test_an_unreadable_file_and_folder(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("open/kept.md", "# Kept\n")
    folder.write("locked.md", "# Locked\n").chmod(0)
    await folder.follow()
    readable = os.access(folder.root / "locked.md", os.R_OK)
    assert ("locked.md", "added" if readable else "failed") in await folder.files()
    listed = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "open":
            raise PermissionError
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    await folder.follow()
    assert "open/kept.md" in await folder.texts()
    monkeypatch.undo()


async def test_a_missing_folder_deletes_nothing(folder: Folder) -> None:
    folder.write("kept.md", "# Kept\n")
    await folder.follow()
    folder.root.rename(folder.root.with_name("away"))
    await folder.follow()
    assert set(await folder.texts()) == {"kept.md"}
    folder.root.with_name("away").rename(folder.root)


async def test_an_absent_disk_deletes_nothing(folder: Folder) -> None:
    """An empty folder in the place of the one that was followed, and that one again."""
    folder.write("kept.md", "# Kept\n")
    folder.write("deep/kept.md", "# Kept too\n")
    await folder.follow()
    away = folder.root.rename(folder.root.with_name("away"))
    await folder.watch.look()
    folder.root.mkdir()
    await folder.follow()
    runs = await folder.runs()
    await folder.follow()
    assert await folder.runs() == runs, "it is told once"
    held = (await folder.stack.runs.page(ME, kind="watch", limit=1)).items[0]
    assert held.status == "failed"
    assert held.error is not None
    assert held.error.startswith(
        f"2 documents are kept although their files are gone, since {folder.root}"
    )
    assert held.error.endswith(f"ai-stack runs retry {held.id}")
    folder.watch = Watch(folder.watching)
    await folder.follow()
    assert set(await folder.texts()) == {"kept.md", "deep/kept.md"}, "also of a new watcher"
    folder.root.rmdir()
    away.rename(folder.root)
    (folder.root / "kept.md").unlink()
    await folder.follow()
    assert set(await folder.texts()) == {"deep/kept.md"}


async def test_deletions_that_are_held_are_made_when_somebody_says_so(folder: Folder) -> None:
    folder.write("old.md", "# Old\n")
    await folder.follow()
    folder.root.rename(folder.root.with_name("away"))
    folder.root.mkdir()
    folder.write("new.md", "# New\n")
    await folder.follow()
    assert set(await folder.texts()) == {"old.md", "new.md"}
    runs = (await folder.stack.runs.page(ME, kind="watch", limit=2)).items
    held = next(run for run in runs if run.status == "failed")
    await folder.stack.runs.retry(ME, held.id)
    await folder.stack.runs.execute(held.id)
    assert (await folder.stack.runs.get(ME, held.id)).status == "succeeded"
    await folder.follow()
    assert set(await folder.texts()) == {"new.md"}


async def test_what_was_mounted_below_is_held_alone(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nas` is another file system, then it is not."""
    mounted = True

    def identity(path: Path) -> tuple[int, int]:
        status = path.stat()
        return (-2 if mounted and "nas" in path.parts else status.st_dev), status.st_ino

    monkeypatch.setattr(folders, "_identity", identity)
    folder.write("nas/film.md", "# Film\n")
    folder.write("nas/deep/song.md", "# Song\n")
    folder.write("near.md", "# Near\n")
    await folder.follow()
    for file in ("nas/film.md", "nas/deep/song.md", "near.md"):
        (folder.root / file).unlink()
    mounted = False
    await folder.follow()
    assert set(await folder.texts()) == {"nas/film.md", "nas/deep/song.md"}
    mounted = True
    await folder.follow()
    assert await folder.texts() == {}


async def test_a_run_that_held_nothing_is_not_retried(folder: Folder) -> None:
    folder.write("bad.pdf", b"%PDF-1.7 nonsense")
    await folder.follow()
    failed = (await folder.stack.runs.page(ME, kind="watch", limit=1)).items[0]
    assert failed.status == "failed"
    await folder.stack.runs.retry(ME, failed.id)
    await folder.stack.runs.execute(failed.id)
    assert (await folder.stack.runs.get(ME, failed.id)).error == places.BY_ITSELF


async def test_a_new_watcher_follows_what_happened_meanwhile(folder: Folder) -> None:
    folder.write("same.md", "# Same\n")
    folder.write("gone.md", "# Gone\n")
    await folder.follow()
    (folder.root / "gone.md").unlink()
    folder.write("new.md", "# New\n")
    folder.watch = Watch(folder.watching)
    await folder.follow()
    assert set(await folder.texts()) == {"same.md", "new.md"}
    assert await folder.files() == [("gone.md", "deleted"), ("new.md", "added")]


async def test_documents_of_others_are_not_the_folders(folder: Folder) -> None:
    mine = NewDocument("Mine.", key="imports/mine.md")
    await folder.stack.documents.add(ME, [mine], wait=False)
    folder.write("a.md", "# A\n")
    await folder.follow()
    assert "mine.md" in await folder.texts()
    await folder.stack.documents.delete(ME, "imports/mine.md")


async def test_ten_thousand_files_are_looked_at_quickly(folder: Folder) -> None:
    for n in range(10_000):
        folder.write(f"{n % 100}/{n}.md", "# x\n")
    await folder.watch.look()
    folder.watch._marks = {p: f.mark for p, f in (folder.watch._before or _none()).files.items()}
    began, used = time.monotonic(), time.process_time()
    pause = await folder.watch.look()
    took, used = time.monotonic() - began, time.process_time() - used
    assert used / (took + pause) < 0.06
    assert await folder.texts() == {}


def _none() -> object:
    raise AssertionError


async def test_two_watchers_take_turns(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "imports").mkdir()
    (tmp_path / "imports" / "a.md").write_text("# Once\n")
    both = [
        Watching(stack.database, stack.runs, stack.watching.imports, tmp_path / "imports", 0.05)
    ] * 2
    before = len((await stack.runs.page(ME, kind="watch", limit=1000)).items)
    tasks = [asyncio.create_task(one.watch()) for one in both]
    await _until(lambda: stack.documents.get(ME, "imports/a.md"))
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len((await stack.runs.page(ME, kind="watch", limit=1000)).items) == before + 1


async def _until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await there()  # type: ignore[misc]
                return
            except NotFound:
                await asyncio.sleep(0.05)
