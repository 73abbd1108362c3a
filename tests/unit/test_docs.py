"""The documentation says what the sources say, names everything, and leads nowhere wrong."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import ai_stack
from ai_stack.cli import VERBS
from ai_stack.settings import Settings, variable_of

ROOT = Path(__file__).parents[2]
SOURCE = Path(ai_stack.__file__).parent
REFERENCE = ROOT / "docs/reference"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MACHINE = re.compile(r"/(home|root|mnt|media|Users)\b|\.internal\b")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def test_generated_pages_are_what_the_sources_say(generate: ModuleType) -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in generate.pages().items()
        if not path.exists() or path.read_text() != text
    ]
    assert stale == [], "run `make docs`"


@pytest.mark.parametrize("file", [REFERENCE / "settings.md", ROOT / "deploy/.env.example"])
def test_every_setting_is_documented(file: Path) -> None:
    text = file.read_text()
    fields = Settings.model_fields.items()
    assert [variable for name, f in fields if (variable := variable_of(name, f)) not in text] == []
    assert [name for name, field in fields if not field.description] == []


def test_every_section_of_settings_begins_with_a_setting(generate: ModuleType) -> None:
    assert {*generate.SECTIONS, *generate.WORKED_OUT} <= set(Settings.model_fields)


def test_every_verb_is_documented(generate: ModuleType) -> None:
    for verb in VERBS:
        helps = dict(generate.helps(verb))
        assert helps
        for name, text in helps.items():
            assert f"## {name}\n" in page("cli")
            assert text in page("cli")
            assert "\n  " in text.partition("\n\n")[2], f"{name} does not say what it does"


def test_every_error_code_is_documented(generate: ModuleType) -> None:
    codes = {error.code for error in generate.error_classes()} | generate.face_codes()
    assert [code for code in codes if f"| `{code}` |" not in page("errors")] == []
    assert {code for code, _, _ in generate.FACE_CODES} == generate.face_codes()


def test_every_route_is_documented(generate: ModuleType) -> None:
    routes = [
        (method.upper(), path, route)
        for path, methods in generate.openapi()["paths"].items()
        for method, route in methods.items()
    ]
    assert [path for method, path, _ in routes if f"## {method} {path}\n" not in page("api")] == []
    assert [f"{m} {path}" for m, path, route in routes if not route.get("description")] == []


def test_every_module_is_in_the_reference() -> None:
    apart = {"migrations", "skills"}  # those have pages of their own, or none
    modules = [p for p in SOURCE.rglob("*.py") if not apart & set(p.relative_to(SOURCE).parts)]
    missing = [
        p.name for p in modules if p.read_text() and f"| `{p.name}` |" not in page("modules")
    ]
    assert missing == []


def readme_tree() -> dict[str, str]:
    """What the README's tree names: path from the root, phrase."""
    text = (ROOT / "README.md").read_text()
    block = next(b for b in FENCE.findall(text) if "src/ai_stack/" in b)
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in block.splitlines()[1:-1]:
        name, _, phrase = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        found["".join(folders)] = phrase.strip()
    return found


def test_the_readme_has_a_phrase_for_each_part() -> None:
    tree = readme_tree()
    parts = {
        f"{p.relative_to(ROOT)}{'/' if p.is_dir() else ''}"
        for p in [*SOURCE.iterdir(), *(SOURCE / "services").iterdir()]
        if p.name not in ("__pycache__", "__init__.py", "py.typed")
    }
    assert sorted(parts - set(tree)) == []
    assert [name for name in tree if not (ROOT / name).exists()] == []
    assert [n for n, phrase in tree.items() if not phrase and n != "src/ai_stack/"] == []


def test_the_changelog_begins_with_this_version() -> None:
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == ai_stack.__version__


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_resolve(file: Path) -> None:
    text = FENCE.sub("", file.read_text())
    wrong = [
        target
        for target in LINK.findall(text)
        if "://" not in target and not resolves(file, target)
    ]
    assert wrong == []


def resolves(file: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    other = (file.parent / path).resolve() if path else file
    return other.exists() and (not anchor or anchor in anchors(other))


def anchors(file: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    "file", [*PAGES, ROOT / "deploy/.env.example"], ids=lambda file: str(file.relative_to(ROOT))
)
def test_no_page_names_a_path_of_one_machine(file: Path) -> None:
    text = file.read_text()
    assert MACHINE.findall(text) == []
    assert str(Path.home()) not in text
    assert str(ROOT) not in text


def test_the_guides_that_people_ask_for_are_there() -> None:
    for name in ("integration", "api", "deployment", "troubleshooting"):
        assert (ROOT / f"docs/guides/{name}.md").stat().st_size > 1000


def test_the_checks_of_this_file_can_fail(tmp_path: Path) -> None:
    planted = tmp_path / "page.md"
    planted.write_text("# A head\n[good](#a-head) [bad](nowhere.md) [worse](#no-head)\n")
    targets = LINK.findall(planted.read_text())
    assert [resolves(planted, target) for target in targets] == [True, False, False]
    assert MACHINE.search("see /home/somebody/file")
