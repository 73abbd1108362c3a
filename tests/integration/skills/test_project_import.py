"""A tree becomes documents; a second sync touches only what changed, and deletions follow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ai_stack.errors import InvalidRequest, NotFound, StorageFull, Unavailable
from ai_stack.skill import SkillFailed, SkillResult
from skills import run

SKILL = "project-import"
SOURCES = {
    "app.py": '"""App."""\n\n\ndef first():\n    return 1\n\n\ndef second():\n    return 2\n',
    "web/a.ts": "// Adds.\nexport const add = (a: number) => a + 1;\ninterface P { x: 1 }\n",
    "a.js": "class Q { m() { return 1 } }\nfunction f() {}\n",
    "a.go": "package a\n\ntype T struct{}\n\nfunc (t *T) M() {}\n",
    "a.rs": "#[derive(Debug)]\nstruct S;\nfn f() {}\n",
    "a.c": "#include <x.h>\nstruct s { int a; };\nstatic int *f(int a) { return 0; }\n",
    "A.java": "package a;\nclass A { int m() { return 1; } }\n",
    "notes.md": "# Notes\n",
}
SYMBOLS = {
    "app.py": {"": "text", "first": "function", "second": "function"},
    "web/a.ts": {"add": "function", "P": "type"},
    "a.js": {"Q": "class", "f": "function"},
    "a.go": {"": "text", "T": "type", "T.M": "method"},
    "a.rs": {"S": "type", "f": "function"},
    "a.c": {"": "text", "s": "type", "f": "function"},
    "A.java": {"": "text", "A": "class"},
    "notes.md": {"": "text"},
}


class Store:
    """The stack's documents, in memory; `full_after` is how many writes there is room for."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.written: list[str] = []
        self.deleted: list[str] = []
        self.full_after = 10_000

    async def __call__(self, ability: str, parameters: Mapping[str, Any]) -> Any:
        match ability:
            case "documents":
                return self.page(**parameters)
            case "put_document":
                if len(self.written) >= self.full_after:
                    raise StorageFull()
                self.written.append(parameters["id"])
                self.documents[parameters["id"]] = dict(parameters)
                return self.documents[parameters["id"]]
            case "delete_document":
                self.deleted.append(parameters["id"])
                if self.documents.pop(parameters["id"], None) is None:
                    raise NotFound()
        return None

    def page(self, filter: Mapping[str, str], limit: int, cursor: str = "0") -> dict[str, Any]:
        """A few documents at a time, so that cursors are followed."""
        (key, value), start = next(iter(filter.items())), int(cursor)
        found = [d for d in self.documents.values() if d["metadata"].get(key) == value]
        more = start + 3 < len(found)
        return {"items": found[start : start + 3], "next_cursor": str(start + 3) if more else None}

    def forget_calls(self) -> None:
        self.written.clear()
        self.deleted.clear()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tree"


async def work(action: str, tree: Path, store: Store, /, **options: Any) -> SkillResult:
    arguments = {"action": action, "name": "shop", **options}
    if action != "forget":
        arguments["folder"] = str(tree)
    return await run(SKILL, tree.parent, store, **arguments)


def counts(result: SkillResult) -> tuple[int, ...]:
    return tuple(int(result.output[key]) for key in ("added", "changed", "deleted", "unchanged"))


async def test_every_language_is_cut_at_its_symbols(tree: Path, store: Store) -> None:
    await work("import", tree, store)
    found: dict[str, dict[str, str]] = {}
    for id, document in store.documents.items():
        about = document["metadata"]
        found.setdefault(about["path"], {})[about["symbol"]] = about["kind"]
        symbol = f"#{about['symbol']}" if about["symbol"] else ""
        assert id == f"project:shop/{about['path']}{symbol}"
        lines = SOURCES[about["path"]].splitlines()
        if about["symbol"]:
            cut = lines[about["start_line"] - 1 : about["end_line"]]
            assert document["content"] == "\n".join(cut)
    assert found == SYMBOLS
    assert store.documents["project:shop/web/a.ts#add"]["content"].startswith("// Adds.")


async def test_nothing_of_a_file_is_lost(tree: Path, store: Store) -> None:
    await work("import", tree, store)
    for name, text in SOURCES.items():
        held = [d["content"] for d in store.documents.values() if d["metadata"]["path"] == name]
        kept = sorted(line for part in held for line in part.splitlines() if line.strip())
        assert kept == sorted(line for line in text.splitlines() if line.strip())


async def test_a_second_sync_touches_only_what_changed(tree: Path, store: Store) -> None:
    first = await work("import", tree, store)
    total = len(store.documents)
    assert counts(first) == (total, 0, 0, 0)
    store.forget_calls()
    assert counts(await work("sync", tree, store)) == (0, 0, 0, total)
    assert store.written == store.deleted == []
    (tree / "app.py").write_text(SOURCES["app.py"].replace("return 2", "return 3"))
    assert counts(await work("sync", tree, store)) == (0, 1, 0, total - 1)
    assert store.written == ["project:shop/app.py#second"]
    (tree / "new.txt").write_text("new")
    store.forget_calls()
    assert counts(await work("sync", tree, store)) == (1, 0, 0, total)
    assert store.written == ["project:shop/new.txt"]


async def test_deletions_follow(tree: Path, store: Store) -> None:
    await work("import", tree, store)
    store.documents["mine"] = {"id": "mine", "content": "x", "metadata": {"project": "shop"}}
    (tree / "a.go").unlink()
    (tree / "a.js").write_text("function f() {}\n")
    result = await work("sync", tree, store)
    assert sorted(store.deleted) == [
        "project:shop/a.go",
        "project:shop/a.go#T",
        "project:shop/a.go#T.M",
        "project:shop/a.js#Q",
    ]
    assert counts(result)[2] == 4 and "mine" in store.documents


async def test_gitignore_is_followed_and_what_is_left_out_is_told(tree: Path, store: Store) -> None:
    (tree / ".gitignore").write_text("*.log\n/built/\n!keep.log\n")
    for name in ("x.log", "keep.log", "built/x.py", "web/deep.log", "web/built/y.py"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("text\n")
    (tree / "web/.gitignore").write_text("!deep.log\n")
    (tree / "data.bin").write_bytes(b"\0\1")
    (tree / "huge.py").write_text("#" * ((1 << 20) + 1))
    (tree / "empty.py").touch()
    (tree / "away.py").symlink_to("/etc/passwd")
    (tree / "uv.lock").write_text("x")
    result = await work("import", tree, store, only=["*.log", "*.py", "*.bin", "*.lock"])
    paths = {d["metadata"]["path"] for d in store.documents.values()}
    assert paths == {"app.py", "keep.log", "web/deep.log", "web/built/y.py"}
    assert sorted(result.notes) == [
        "1 files left out: empty.",
        "1 files left out: larger than 1 MiB.",
        "1 files left out: links and the like.",
        "1 files left out: lock files.",
        "1 files left out: not text.",
    ]


async def test_a_file_that_is_ignored_from_now_on_goes(tree: Path, store: Store) -> None:
    await work("import", tree, store)
    (tree / ".gitignore").write_text("notes.md\n")
    await work("sync", tree, store)
    assert store.deleted == ["project:shop/notes.md"]


async def test_an_interrupted_import_is_finished_by_the_next(tree: Path, store: Store) -> None:
    store.full_after = 5
    with pytest.raises(StorageFull):
        await work("import", tree, store)
    store.full_after = 10_000
    await work("sync", tree, store)
    store.forget_calls()
    result = await work("sync", tree, store)
    assert store.written == [] and counts(result)[3] == len(store.documents)


async def test_long_classes_are_cut_into_their_methods(tmp_path: Path, store: Store) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    method = "    @cached\n    def m{0}(self):\n        return '" + "x" * 400 + "'\n\n"
    methods = "".join(method.replace("{0}", str(n)) for n in range(20))
    (tree / "a.py").write_text(f'class Big(Base):\n    """Big."""\n\n    size = 1\n\n{methods}')
    await work("import", tree, store)
    big = store.documents["project:shop/a.py#Big"]
    assert (big["metadata"]["kind"], big["content"].splitlines()[0]) == (
        "class",
        "class Big(Base):",
    )
    assert "size = 1" in big["content"] and "def m0" not in big["content"]
    last = store.documents["project:shop/a.py#Big.m19"]
    assert last["metadata"]["kind"] == "method" and last["content"].startswith("    @cached")
    assert len(store.documents) == 21


async def test_forgetting_leaves_nothing_and_no_other_project(tree: Path, store: Store) -> None:
    await work("import", tree, store)
    await work("import", tree, store, name="shop2")
    kept = sum(id.startswith("project:shop2/") for id in store.documents)
    told = await work("forget", tree, store, dry_run=True)
    assert store.deleted == [] and counts(told)[2] == kept
    await work("forget", tree, store)
    assert len(store.documents) == kept
    assert counts(await work("forget", tree, store))[2] == 0


async def test_import_and_sync_know_their_turn(tree: Path, store: Store) -> None:
    with pytest.raises(SkillFailed, match="`import` it first"):
        await work("sync", tree, store)
    await work("import", tree, store)
    with pytest.raises(SkillFailed, match="`sync` brings"):
        await work("import", tree, store)


async def test_without_a_stack_only_a_dry_run_goes_on(tree: Path) -> None:
    with pytest.raises(Unavailable):
        await run(SKILL, tree.parent, action="import", folder=str(tree), name="shop")
    result = await run(
        SKILL, tree.parent, action="import", folder=str(tree), name="shop", dry_run=True
    )
    assert "compared with nothing" in result.notes[0]


async def test_odd_trees_do_no_harm(tmp_path: Path, store: Store) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "twice.py").write_text("def f(): pass\ndef f(): pass\nif x:\n  def f(): pass\n")
    (tree / "deep.js").write_text("[" * 50_000 + "\n")
    (tree / "broken.py").write_text("def f(:\n  class\n")
    (tree / "one.min.js").write_text("var a=1;" * 5_000)
    (tree / "a#b ü.py").write_text("def g(): pass\n")
    long = tree / ("d" * 200) / ("e" * 200) / ("f" * 200) / ("g" * 200) / ("h" * 200)
    long.mkdir(parents=True)
    (long / "x.py").write_text("def h(): pass\n")
    await work("import", tree, store)
    assert {"project:shop/twice.py#f", "project:shop/twice.py#f~2"} <= set(store.documents)
    assert all(len(id) <= 1024 for id in store.documents)
    assert counts(await work("sync", tree, store))[:3] == (0, 0, 0)


async def test_what_is_no_project_is_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(SkillFailed, match="nothing to import"):
        await work("import", tmp_path / "tree", store)
    with pytest.raises(SkillFailed, match="no folder"):
        await work("import", tmp_path / "none", store)
    with pytest.raises(InvalidRequest, match="name"):
        await work("import", tmp_path / "tree", store, name="a/b")
