"""Planted faults are found at their lines, clean code gives none, and nothing reviewed is run."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed, SkillResult
from skills import run

SKILL = "code-review"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
CLEAN = '''"""Prices."""


def total(prices: list[int]) -> int:
    """Their sum."""
    return sum(prices)
'''
PLANTED = {
    "bug": ("bug.py", "import os\n\n\ndef f():\n    return oss.getcwd()\n", 5, "F821"),
    "security": ("load.py", "import yaml\n\n\ndef f(t):\n    return yaml.load(t)\n", 5, "B506"),
    "syntax": ("broken.py", "def f():\n    return (1\n\n\nx = 2\n", None, "invalid-syntax"),
    "conflict": (
        "merge.txt",
        "a\n<<<<<<< ours\nb\n=======\nc\n>>>>>>> theirs\n",
        2,
        "merge-conflict",
    ),
    "complexity": (
        "many.ts",
        "\nexport function many(a: number) {\n"
        + "".join(f"  if (a === {n} && a) return {n};\n" for n in range(12))
        + "}\n",
        2,
        "complex-function",
    ),
}


def secret() -> str:
    """A key of the form that a cloud gives, and that no cloud gave."""
    return "AKIA" + "".join(random.Random(3).choices(LETTERS, k=16))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A repository with a fault of each kind, among clean files."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, text, _, _ in PLANTED.values():
        (folder / name).write_text(text)
    (folder / "keys.env").write_text(f"# keys\nAWS={secret()}\n")
    (folder / "prices.py").write_text(CLEAN)
    return folder


async def review(folder: Path, action: str = "repository", /, **arguments: Any) -> SkillResult:
    return await run(SKILL, folder, action=action, **arguments)


def rows(result: SkillResult) -> list[dict[str, Any]]:
    return list(result.output["findings"])


async def test_a_fault_of_each_kind_is_found_at_its_line(shop: Path, tmp_path: Path) -> None:
    result = await review(tmp_path, folder=str(shop))
    found = {(r["path"], r["kind"], r["rule"]): r["line"] for r in rows(result)}
    for kind, (name, _, line, rule) in PLANTED.items():
        assert (name, kind, rule) in found
        assert line is None or found[name, kind, rule] == line
    assert found["keys.env", "secret", "secret/aws-access-key"] == 2
    assert not [r for r in rows(result) if r["path"] == "prices.py"]
    assert set(result.output["counts"]) == {*PLANTED, "secret"}


async def test_clean_code_gives_none(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text(CLEAN)
    (code / "a.go").write_text("package a\n\nfunc Add(a, b int) int { return a + b }\n")
    (code / "a.rs").write_text("fn add(a: i32, b: i32) -> i32 {\n    a + b\n}\n")
    (code / "A.java").write_text("class A {\n  int add(int a, int b) { return a + b; }\n}\n")
    (code / "a.tsx").write_text("export const A = (p: {n: number}) => <b>{p.n}</b>;\n")
    (code / "a.c").write_text("int add(int a, int b) { return a + b; }\n")
    result = await review(tmp_path, folder=str(code))
    assert rows(result) == [] and result.output["files"] == 6


async def test_the_reports_say_the_same(shop: Path, tmp_path: Path) -> None:
    result = await review(tmp_path, folder=str(shop))
    run_ = json.loads((tmp_path / "out/review.sarif").read_text())["runs"][0]
    told = {
        (
            r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            r["locations"][0]["physicalLocation"]["region"]["startLine"],
            r["ruleId"],
        )
        for r in run_["results"]
    }
    assert told == {(r["path"], r["line"], r["rule"]) for r in rows(result)}
    for r in run_["results"]:
        assert run_["tool"]["driver"]["rules"][r["ruleIndex"]]["id"] == r["ruleId"]
    report = (tmp_path / "out/review.md").read_text()
    assert "load.py:5" in report and secret() not in report
    assert secret() not in json.dumps(dict(result.output))


async def test_a_diff_is_judged_by_what_it_adds(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text("import os\n\n\ndef f(x=[]):\n    return y\n")
    head = "--- a/a.py\n+++ b/a.py\n@@ -3,3 +3,3 @@\n"
    diff = f"{head} \n def f(x=[]):\n-    return x\n+    return y\n"
    result = await review(tmp_path, "diff", diff=diff, folder=str(code))
    assert [(r["line"], r["rule"]) for r in rows(result)] == [(5, "F821")]
    result = await review(tmp_path, "diff", diff=diff)
    assert rows(result) == [] and "only in part" in result.notes[0]


async def test_a_diff_that_does_not_fit_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    diff = "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
    with pytest.raises(SkillFailed, match=r"a\.py:1 differs"):
        await review(tmp_path, "diff", diff=diff, folder=str(tmp_path))


@pytest.mark.parametrize(
    ("diff", "told"),
    [
        ("", "Give a diff"),
        ("hello", "no unified diff"),
        ("--- a/x\n+++ b/../../etc/passwd\n@@ -0,0 +1 @@\n+x\n", "leads out"),
        ("--- a/x\n+++ /etc/passwd\n@@ -0,0 +1 @@\n+x\n", "leads out"),
        ("--- a/x\n+++ b/x\n@@ -1 +1,900000000 @@\n+x\n", "beyond any file's end"),
        ("--- a/x\n+++ b/x\n@@ -1 +1,3 @@\n+x\n", "ends within a hunk"),
    ],
)
async def test_a_hostile_diff_is_refused(tmp_path: Path, diff: str, told: str) -> None:
    with pytest.raises(SkillFailed, match=told):
        await review(tmp_path, "diff", diff=diff)


async def test_nothing_of_the_repository_is_run_or_obeyed(tmp_path: Path) -> None:
    """Its configuration would silence ruff and bandit; its code would leave a mark."""
    code, mark = tmp_path / "code", tmp_path / "mark"
    code.mkdir()
    (code / "pyproject.toml").write_text('[tool.ruff]\nexclude = ["*"]\n')
    (code / "ruff.toml").write_text('[lint]\nignore = ["ALL"]\n')
    (code / ".bandit").write_text("[bandit]\nskips = B102\n")
    (code / "conftest.py").write_text(f"exec(open({str(mark)!r}, 'w').write('ran'))\nundefined\n")
    (code / "ruff.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\n")
    result = await review(tmp_path, folder=str(code))
    assert {"B102", "F821"} <= {r["rule"] for r in rows(result)}
    assert not mark.exists()


async def test_suppressions_are_respected_unless_told(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        f"x = y  # noqa: F821\nexec(x)  # nosec\nk = '{secret()}'  # pragma: allowlist secret\n"
    )
    result = await review(tmp_path, "files", files=[str(file)])
    assert rows(result) == []
    result = await review(tmp_path, "files", files=[str(file)], suppressions=False)
    assert {r["rule"] for r in rows(result)} == {"F821", "B102", "secret/aws-access-key"}


async def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    code, elsewhere = tmp_path / "code", tmp_path / "elsewhere"
    for folder in (code, elsewhere, code / "sub", code / "node_modules"):
        folder.mkdir()
    (elsewhere / "far.py").write_text("undefined\n")
    (code / "link.py").symlink_to(elsewhere / "far.py")
    (code / "far").symlink_to(elsewhere)
    (code / "huge.py").write_text("#" * (1 << 20) + "\n\n")
    (code / "data.bin").write_bytes(b"\0" * 100)
    (code / "old.py").write_bytes(b"# caf\xe9\n")
    (code / "node_modules/x.py").write_text("undefined\n")
    (code / ".gitignore").write_text("*.gen.py\n/built\n")
    (code / "a.gen.py").write_text("undefined\n")
    (code / "sub/.gitignore").write_text("!b.gen.py\n")
    (code / "sub/b.gen.py").write_text("undefined\n")
    result = await review(tmp_path, folder=str(code))
    assert [r["path"] for r in rows(result)] == ["sub/b.gen.py"] * len(rows(result)) != []
    assert sorted(result.notes) == [
        "1 files left out: larger than 1 MiB.",
        "1 files left out: no regular file.",
        "1 files left out: not UTF-8.",
        "1 files left out: not text.",
    ]


async def test_deeply_nested_and_odd_code_does_no_harm(tmp_path: Path) -> None:
    names = ["deep.py", "deep.js", "-x.py", "a b|<c>.py", "nul.py"]
    (tmp_path / names[0]).write_text("x = " + "(" * 5000 + ")" * 5000 + "\n")
    (tmp_path / names[1]).write_text("x = " + "[" * 20000 + "]" * 20000 + "\n")
    (tmp_path / names[2]).write_text("undefined\n")
    (tmp_path / names[3]).write_text("undefined\n")
    (tmp_path / names[4]).write_text("x = '\\d'\n")
    files = [str(tmp_path / name) for name in names]
    result = await review(tmp_path, "files", files=files)
    assert {r["path"] for r in rows(result) if r["rule"] == "F821"} == {names[2], names[3]}
    assert "a b\\|\\<c\\>.py:1" in (tmp_path / "out/review.md").read_text()


async def test_there_must_be_something_to_review(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SkillFailed, match="nothing to review"):
        await review(tmp_path, folder=str(tmp_path / "empty"))
    with pytest.raises(SkillFailed, match="no folder"):
        await review(tmp_path, folder=str(tmp_path / "none"))
    with pytest.raises(SkillFailed, match="1 unreadable"):
        await review(tmp_path, "files", files=[str(tmp_path / "none")])
    with pytest.raises(InvalidRequest, match="files"):
        await review(tmp_path, "files", files=[])
