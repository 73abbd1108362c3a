"""Reports: every statement is traced to a commit or line that exists and says it."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed, SkillResult
from ai_stack.skill.discovery import OURS
from skills import run

NAME = "internal-comms"
SHIPPED = OURS / NAME / "examples"
COMMITS = [
    ("Mara", "2026-03-01", "feat(search): rank by freshness too", ""),
    ("Ola", "2026-03-02", "fix: keep umlauts in titles", "Fixes #12"),
    ("Mara", "2026-03-03", "feat!: drop the old API", "BREAKING CHANGE: /v1 answers 410 now"),
    ("Ola", "2026-04-01", "Add a page of [1] prices <b>bold</b>", ""),
    ("Mara", "2026-04-02", "chore: tidy", ""),
]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    assert shutil.which("git"), "These tests need git: apt-get install git"
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number, (author, day, subject, body) in enumerate(COMMITS):
        (folder / "file.txt").write_text("line\n" * (number + 1))
        git(folder, "add", ".")
        who = {"GIT_AUTHOR_DATE": f"{day}T12:00:00Z", "GIT_COMMITTER_DATE": f"{day}T12:00:00Z"}
        message = f"{subject}\n\n{body}"
        git(folder, "-c", f"user.name={author}", "commit", "-q", "-m", message, more=who)
    return folder


def git(folder: Path, *arguments: str, more: Mapping[str, str] | None = None) -> str:
    env = {"HOME": str(folder), "PATH": "/usr/bin:/bin:/usr/local/bin", **(more or {})}
    command = ["git", "-c", "user.email=a@example.org", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def traced(
    result: SkillResult, folder: Path, documents: list[Path], repository: Path | None
) -> None:
    """Every source is there and says what it is quoted with; every statement is said there."""
    said = {p.name: p.read_text().splitlines() for p in documents}
    log = git(repository, "log", "--format=%H%n%B") if repository else ""
    sources = {source["id"]: source for source in result.output["sources"]}
    for source in sources.values():
        if source["kind"] == "line":
            name, _, line = source["place"].rpartition(":")
            assert source["quote"] in said[name][int(line) - 1]
        else:
            assert source["quote"] in log and source["place"].removeprefix("commit ") in log
    for statement in result.output["statements"]:
        cited = [sources[id] for id in statement["sources"]]
        assert cited, statement
        if not statement["computed"]:
            text = re.sub(r"^(\d{4}-\d\d-\d\d )?\d\d:\d\d ", "", statement["text"])
            assert any(text in source["quote"] for source in cited), statement
    shown = (folder / "out" / str(result.output["file"])).read_text()
    body, _, listed = shown.partition("\n## Sources\n")
    lines = [line for line in body.splitlines() if line.startswith("- ")]
    gaps = {f"- {gap}" for gap in result.output["gaps"]}
    assert lines and all(re.search(r"(?<!\\)\[[\d, –]+\]$", li) for li in lines if li not in gaps)
    assert len(re.findall(r"(?m)^\d+\. ", listed)) == len(sources)


def texts(result: SkillResult, section: str) -> list[str]:
    return [s["text"] for s in result.output["statements"] if s["section"] == section]


async def test_a_status_report_traces_to_commits_and_lines(
    repository: Path, tmp_path: Path
) -> None:
    week = SHIPPED / "week.md"
    result = await run(
        NAME, tmp_path, action="status_report", repository=repository, documents=[week]
    )
    traced(result, tmp_path, [week], repository)
    assert texts(result, "numbers")[:2] == [
        "Commits: 5, authors: 2",
        "Lines added: 5, lines removed: 0",
    ]
    assert texts(result, "attention") == ["/v1 answers 410 now"]
    assert "rank by freshness too" in texts(result, "done")
    assert texts(result, "risks")[1] == "no answer from the supplier yet"
    counted = next(s for s in result.output["statements"] if s["text"].startswith("Commits: 5"))
    assert len(counted["sources"]) == 5


async def test_a_newsletter_sorts_and_thanks(repository: Path, tmp_path: Path) -> None:
    result = await run(NAME, tmp_path, action="newsletter", repository=repository)
    traced(result, tmp_path, [], repository)
    assert "drop the old API" in texts(result, "new")
    assert texts(result, "mended") == ["keep umlauts in titles"]
    assert texts(result, "people") == ["Mara: 3", "Ola: 2"]
    shown = (tmp_path / "out/newsletter.md").read_text()
    assert "of \\[1\\] prices \\<b>" in shown  # no reference and no markup of a commit's own


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"since": "2026-03-15"}, 2),
        ({"until": "2026-03-15"}, 3),
        ({"range": "HEAD~2..HEAD"}, 2),
        ({"range": "HEAD~2"}, 3),
    ],
)
async def test_only_the_time_or_range_that_is_asked_for(
    given: dict[str, str], count: int, repository: Path, tmp_path: Path
) -> None:
    result = await run(NAME, tmp_path, action="status_report", repository=repository, **given)
    assert texts(result, "numbers")[0].startswith(f"Commits: {count},")
    assert len(result.output["sources"]) == count + (given.get("since") is None and count == 3)


async def test_an_incident_has_its_spans_over_midnight(tmp_path: Path) -> None:
    outage = SHIPPED / "outage.md"
    result = await run(NAME, tmp_path, action="incident", documents=[outage])
    traced(result, tmp_path, [outage], None)
    assert texts(result, "spans") == [
        "From the first moment until it was noticed: 12 min",
        "From the first moment until it was over: 1 h 15 min",
        "From the first moment to the last: 1 h 15 min",
    ]
    assert texts(result, "timeline")[0] == "2026-04-02 23:40 deploy of version 41"
    assert len(texts(result, "actions")) == 2 and len(texts(result, "cause")) == 1


async def test_what_nobody_wrote_down_is_a_gap_and_not_made_up(tmp_path: Path) -> None:
    (tmp_path / "thin.md").write_text("10:00 disk full\n10:05 alert: no space\n")
    result = await run(NAME, tmp_path, action="incident", documents=[tmp_path / "thin.md"])
    assert {gap.partition(":")[0] for gap in result.output["gaps"]} == {
        "Impact",
        "Cause",
        "Actions",
        "Resolution",
    }
    assert texts(result, "cause") == []


async def test_answers_are_quoted_or_left_open(tmp_path: Path) -> None:
    book = SHIPPED / "handbook.md"
    asked = ["How fast are travel costs paid back?", "What does a parking space cost?"]
    result = await run(NAME, tmp_path, action="faq", documents=[book], questions=asked)
    traced(result, tmp_path, [book], None)
    assert texts(result, "question-3") == ["Travel costs are paid back within ten days."]
    assert texts(result, "question-4") == []
    assert result.output["gaps"] == ["What does a parking space cost?: no document answers it."]


async def test_a_template_is_filled_and_keeps_the_sources(tmp_path: Path) -> None:
    given = {"action": "status_report", "documents": [SHIPPED / "week.md"], "title": "Week"}
    result = await run(NAME, tmp_path, **given, template=SHIPPED / "template.md")
    shown = (tmp_path / "out/status-report.md").read_text()
    assert "What could go wrong:\n\n- The certificate" in shown and "## Sources" in shown
    assert "The template has no place for {{done}}." in result.notes
    (tmp_path / "wrong.md").write_text("{{weather}}")
    with pytest.raises(SkillFailed, match="asks for weather"):
        await run(NAME, tmp_path, **given, template=tmp_path / "wrong.md")


async def test_many_lines_are_counted_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "many.md").write_text("".join(f"Done: thing {n}\n" for n in range(40)))
    result = await run(
        NAME, tmp_path, action="status_report", documents=[tmp_path / "many.md"], most=5
    )
    last = result.output["statements"][-1]
    assert last["text"] == "35 more done" and len(last["sources"]) == 35
    assert "[6–40]" in (tmp_path / "out/status-report.md").read_text()


async def test_a_models_sentences_are_kept_only_where_sources_bear_them_out(tmp_path: Path) -> None:
    answer = (
        "The archive was moved to the new disks [1]. Revenue grew by 40 % [1]."
        " All is well. The certificate ends on 3 May [4]. We thank our friend Zebulon [2]."
        " Nine [99]."
    )

    async def model(ability: str, parameters: Mapping[str, Any]) -> Any:
        return {"models": ["m"], "generate": {"text": answer}}.get(ability)

    given = {"action": "status_report", "documents": [SHIPPED / "week.md"], "lead": True}
    result = await run(NAME, tmp_path, model, **given)
    assert texts(result, "lead") == [
        "The archive was moved to the new disks.",
        "The certificate ends on 3 May.",
    ]
    assert "4 sentences" in result.notes[0]
    without = await run(NAME, tmp_path, **given)
    assert texts(without, "lead") == [] and "no language model" in without.notes[0]


async def test_a_hostile_repository_runs_nothing(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    for key in ("core.fsmonitor", "core.pager", "gpg.program", "core.sshCommand", "diff.external"):
        git(repository, "config", key, f"touch {trap}; false")
    git(repository, "config", "log.showSignature", "true")
    result = await run(NAME, tmp_path, action="status_report", repository=repository)
    assert texts(result, "numbers") and not trap.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Give a `repository`"),
        ({"repository": "."}, "no git repository"),
        ({"documents": ["empty.md"]}, "say nothing"),
        ({"documents": ["binary.md"]}, "no text in UTF-8"),
        ({"documents": ["none.md"]}, "is no file"),
        ({"repository": "repo", "range": "--output=x"}, "`range` must be"),
        ({"repository": "repo", "range": "nowhere..HEAD"}, "git cannot read that"),
        ({"repository": "repo", "since": "2030-01-01"}, "say nothing"),
    ],
)
async def test_what_cannot_be_done_is_said(
    given: dict[str, Any], said: str, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "binary.md").write_bytes(b"\xff\x00\x01")
    placed = {
        key: [tmp_path / v for v in value] if key == "documents" else value
        for key, value in given.items()
    }
    if "repository" in placed:
        placed["repository"] = tmp_path / placed["repository"]
    with pytest.raises(SkillFailed, match=said):
        await run(NAME, tmp_path, action="status_report", **placed)


async def test_wrong_arguments_name_their_field(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="most"):
        await run(NAME, tmp_path, action="newsletter", documents=[SHIPPED / "week.md"], most=0)
