"""Skills in a stack: listed, checked, run in processes apart, their files in and out."""

import asyncio
import base64
import io
import json
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from typer.testing import CliRunner

from ai_stack.cli import skills as cli
from ai_stack.connections import Connection
from ai_stack.database import job_worker
from ai_stack.errors import InvalidRequest, NotFound, SkillFailed, TooLarge, Unsupported
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal
from ai_stack.models.runs import Run
from ai_stack.sandbox import Confinement, find_sandbox
from ai_stack.server import create_app
from ai_stack.services.handlers import RunContext
from ai_stack.services.skills import FILE_BYTES, QUEUE
from ai_stack.services.skills.apart import WRITTEN_BYTES, Apart
from ai_stack.services.skills.files import references, unpacked
from ai_stack.settings import Settings
from ai_stack.skill.wire import Order
from ai_stack.stack import Stack, open_stack

ME = Principal()
USER_SKILL = '''
import os, sys, time
from typing import Annotated, Any
from pydantic import Field
from ai_stack.skill import File, Folder, Skill, SkillResult, action

class Mine(Skill):
    @action
    async def count(self, file: File, more: list[File] = []) -> SkillResult:
        """Count the bytes of files."""
        sizes = [path.stat().st_size for path in (file, *more)]
        self.context.artifact("sizes.txt").write_text(repr(sizes))
        return SkillResult({"names": [p.name for p in (file, *more)], "sizes": sizes}, "counted")

    @action
    async def tree(self, folder: Folder) -> SkillResult:
        """List a folder."""
        return SkillResult({"files": sorted(p.name for p in folder.rglob("*") if p.is_file())})

    @action
    async def ask(self, query: str) -> SkillResult:
        """Search and add."""
        made = await self.context.add_documents([{"content": query, "id": "by-a-skill"}])
        found = await self.context.search(query, mode="keyword", limit=3)
        await self.context.progress(1, 2, "half of it")
        await self.context.put_document("by-a-skill", "changed")
        changed = await self.context.document("by-a-skill")
        await self.context.delete_document("by-a-skill")
        said = await self.context.generate("Say anything.", max_tokens=8)
        return SkillResult({"made": len(made), "found": len(found),
                            "changed": changed["content"], "said": said is not None})

    @action
    async def call(self, ability: str, given: dict[str, Any]) -> SkillResult:
        """Ask the stack for something by its bare name."""
        return SkillResult({"answer": await self.context.calls(ability, given)})

    @action
    async def sleep(self, seconds: float) -> SkillResult:
        """Sleep."""
        time.sleep(seconds)
        return SkillResult()

    @action
    async def break_down(self) -> SkillResult:
        """Fail in a way that nobody planned."""
        print("the last words", flush=True)
        raise ZeroDivisionError("a secret of the code")

    @action
    async def odd(self) -> SkillResult:
        """Say what no database keeps."""
        print("odd", chr(0), "words", flush=True)
        half = chr(0xD83D)
        return SkillResult({"nul": f"a{chr(0)}b", "half": half, "none": float("nan")})

    @action
    async def flood(self, files: int) -> SkillResult:
        """Make many files."""
        for number in range(files):
            self.context.artifact(f"{number}.txt").touch()
        return SkillResult()
'''
HEAD = """---
name: {name}
description: Counts bytes, lists folders, asks the stack.
metadata:
  ai-stack-uses: search documents documents:write inference
  ai-stack-time: 6 s
---
Read me first.
"""


def place(folder: Path, name: str, code: str = USER_SKILL, head: str = HEAD) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "SKILL.md").write_text(head.format(name=name))
    if code:
        (folder / name / "skill.py").write_text(code)


@pytest.fixture(scope="module")
async def stack(memory_settings: Settings) -> AsyncIterator[Stack]:
    skills = memory_settings.config_dir / "skills"
    place(skills, "mine")
    place(skills, "reading", code="")
    place(skills, "lost", code="import nowhere_to_be_found\n")
    place(skills, "template-skill")
    (skills / "broken").mkdir()
    (memory_settings.data_dir / "imports").mkdir(parents=True)
    async with open_stack(memory_settings) as opened:
        worker = asyncio.create_task(
            job_worker.work(opened.database, opened.runs.execute, 2, QUEUE)
        )
        yield opened
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


@pytest.fixture(scope="module")
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    config = uvicorn.Config(create_app(stack.settings, stack), port=0, http=Connection)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task.result()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as opened:
        yield opened
    server.should_exit = True
    await task


async def run(stack: Stack, skill: str, **parameters: object) -> Run:
    return await stack.skills.execute(ME, skill, parameters)


def data(text: str, name: str = "a.txt") -> str:
    return f"data:text/plain;name={name};base64,{base64.b64encode(text.encode()).decode()}"


async def test_ours_and_the_users_are_listed_and_a_name_of_ours_stays_ours(stack: Stack) -> None:
    items = {one.name: one for one in await stack.skills.items()}
    assert (items["mine"].source, items["mine"].ready) == ("user", True)
    assert items["mine"].parameters["properties"]["file"]["format"] == "file"
    assert items["template-skill"].source == "ours"
    assert (items["reading"].acts, items["reading"].ready) == (False, False)
    assert "nowhere_to_be_found" not in items["lost"].missing
    assert "cannot be loaded" in items["lost"].missing
    assert "SKILL.md" in items["broken"].missing


async def test_a_skill_is_found_by_what_it_does(stack: Stack) -> None:
    found = await stack.skills.find("counts bytes and lists folders")
    assert found[0].name == "mine"
    assert await stack.skills.find("") == []


async def test_files_go_in_by_every_form_and_come_out(stack: Stack) -> None:
    await stack.documents.add(ME, [NewDocument("12345", key="n/five.md")])
    local = stack.settings.data_dir / "imports" / "seven.txt"
    local.write_text("1234567")
    first = await run(stack, "mine", action="count", file=data("123"))
    assert first.error is None
    assert first.output is not None
    kept = f"run:{first.id}/sizes.txt"
    found = await run(
        stack,
        "mine",
        action="count",
        file=data("1", "b.md"),
        more=[kept, "document:n/five.md", str(local)],
    )
    assert found.error is None
    assert found.output["output"] == {
        "names": ["b.md", "sizes.txt", "five.md", "seven.txt"],
        "sizes": [1, 3, 5, 7],
    }
    artifact = await stack.skills.artifact(ME, found.id, "sizes.txt")
    pieces = [piece async for piece in stack.skills.content(ME, found.id, artifact)]
    assert b"".join(pieces) == b"[1, 3, 5, 7]"


@pytest.mark.parametrize(
    ("file", "error"),
    [
        ("/etc/passwd", "open to skills"),
        ("relative.txt", "run:ID/NAME"),
        ("document:absent", "no document"),
        ("run:00000000-0000-7000-8000-000000000001/x", "no file"),
        (f"run:{'-' * 36}/x", "run:ID/NAME"),
        ("data:nonsense", "data: URL"),
        ("data:text/plain;base64,***", "base64"),
    ],
)
async def test_a_file_that_cannot_be_had_is_named(stack: Stack, file: str, error: str) -> None:
    found = await run(stack, "mine", action="count", file=file)
    assert found.status == "failed"
    assert error in (found.error or "")


async def test_a_link_out_of_an_open_folder_leads_nowhere(stack: Stack) -> None:
    link = stack.settings.data_dir / "imports" / "link.txt"
    link.symlink_to("/etc/passwd")
    found = await run(stack, "mine", action="count", file=str(link))
    assert "open to skills" in (found.error or "")


async def test_a_folder_comes_as_an_archive(stack: Stack) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("top/a.txt", "a")
        target.writestr("top/../../b.txt", "b")
    text = base64.b64encode(archive.getvalue()).decode()
    found = await run(
        stack, "mine", action="tree", folder=f"data:application/zip;name=x.zip;base64,{text}"
    )
    assert found.error is None
    assert sorted(found.output["output"]["files"]) == ["a.txt", "b.txt"]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("zeros", bytes(128 << 20))
    with pytest.raises(TooLarge):
        unpacked(bomb, tmp_path / "out")
    (tmp_path / "none.zip").write_bytes(b"PK nothing")
    with pytest.raises(InvalidRequest):
        unpacked(tmp_path / "none.zip", tmp_path / "out")


async def test_a_skill_reaches_the_stack_within_what_it_states(stack: Stack) -> None:
    found = await run(stack, "mine", action="ask", query="zanzibar")
    assert found.error is None
    output = found.output["output"]
    assert (output["made"], output["changed"], output["said"]) == (1, "changed", True)
    events = [event async for event in stack.runs.follow(ME, found.id)]
    assert "half of it" in [event.data.get("message") for event in events]


@pytest.mark.parametrize(
    ("ability", "given", "error"),
    [
        ("search", {"query": "x", "limit": ["many"]}, "request"),
        ("search", {"query": "x", "lims": 3}, "no option lims"),
        ("settings", {}, "nothing that is called"),
    ],
)
async def test_a_call_that_is_wrong_is_answered_at_once(
    ability: str, given: dict[str, object], error: str, stack: Stack
) -> None:
    found = await run(stack, "mine", action="call", ability=ability, given=given)
    assert "its time" not in (found.error or "")
    assert error in (found.error or "")


async def test_what_a_folder_held_before_is_not_what_a_skill_wrote(tmp_path: Path) -> None:
    place(tmp_path, "mine")
    others, out = tmp_path / "others", tmp_path / "out"
    for folder in (others, out):
        folder.mkdir()
    with (others / "large").open("wb") as sparse:
        sparse.truncate(WRITTEN_BYTES + 1)
    folder = tmp_path / "mine"
    bounds = Confinement(reads=[folder], writes=[out, others])
    order = Order(str(folder), str(out), str(out), bounds, {"action": "sleep", "seconds": 1})
    assert (await Apart(find_sandbox()).run(order, 30))["output"] == {}


async def test_its_time_is_an_end(stack: Stack) -> None:
    found = await run(stack, "mine", action="sleep", seconds=60)
    assert found.status == "failed"
    assert "its time" in (found.error or "")


async def test_a_failure_tells_no_secret_and_the_log_is_among_the_events(stack: Stack) -> None:
    found = await run(stack, "mine", action="break_down")
    assert found.status == "failed"
    assert "secret" not in (found.error or "")
    told = [event.data async for event in stack.runs.follow(ME, found.id) if event.kind == "step"]
    assert any("the last words" in line for line in told[0]["log"])


async def test_what_no_database_keeps_is_replaced(stack: Stack) -> None:
    found = await run(stack, "mine", action="odd")
    assert found.status == "succeeded", found.error
    assert found.output["output"] == {"nul": "a\ufffdb", "half": "\ufffd", "none": None}


async def test_too_many_files_are_a_failure(stack: Stack) -> None:
    found = await run(stack, "mine", action="flood", files=65)
    assert "more than it may" in (found.error or "")


async def test_a_run_can_be_cancelled(stack: Stack) -> None:
    begun = await stack.skills.execute(
        ME, "mine", {"action": "sleep", "seconds": 60}, background=True
    )
    async for event in stack.runs.follow(ME, begun.id):
        if event.kind == "started":
            await asyncio.sleep(0.3)
            await stack.runs.cancel(ME, begun.id)
    assert (await stack.runs.get(ME, begun.id)).status == "cancelled"


async def test_a_run_that_was_interrupted_is_not_done_twice(stack: Stack) -> None:
    begun = await stack.runs.start(ME, "skill-later", {"skill": "template-skill"})
    await stack.runs.cancel(ME, begun.id)
    handler = stack.runs.handlers["skill"]
    with pytest.raises(SkillFailed, match="interrupted"):
        await handler(RunContext(ME, begun, stack.database, 1))


async def test_what_cannot_run_is_refused_before_it_starts(stack: Stack) -> None:
    with pytest.raises(NotFound):
        await run(stack, "absent")
    with pytest.raises(Unsupported):
        await run(stack, "reading")
    with pytest.raises(SkillFailed):
        await run(stack, "lost")
    with pytest.raises(InvalidRequest) as refused:
        await run(stack, "mine", action="count", fil="x")
    assert refused.value.fields == {"file": "is needed", "fil": "is not known"}


async def test_every_run_is_in_the_time_series(stack: Stack) -> None:
    await run(stack, "template-skill", text="counted")
    async with stack.database.transaction(ME.project_id) as tx:
        row = await tx.row(
            "SELECT count(*), min(duration_ms) FROM skill_runs WHERE skill = 'template-skill'"
        )
    assert row is not None
    assert row[0] >= 1
    assert row[1] > 0


async def test_over_rest(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/skills")).json()["items"]
    assert {"mine", "template-skill"} <= {one["name"] for one in listed}
    shown = (await client.get("/skills/mine")).json()
    assert shown["instructions"] == "Read me first."
    assert [one["path"] for one in shown["files"]][:1] == ["SKILL.md"]
    code = await client.get("/skills/mine/files/skill.py")
    assert code.text == USER_SKILL
    assert (await client.get("/skills/mine/files/../broken/x")).status_code == 404
    assert (await client.get("/skills/mine/files/%2Fetc%2Fpasswd")).status_code == 404

    given = await client.post("/skills/files", files={"files": ("up.txt", b"12")})
    assert given.status_code == 201
    (name,) = given.json()["files"]
    body = {"parameters": {"action": "count", "file": name}}
    made = await client.post("/skills/mine/execute", json=body)
    assert made.status_code == 200
    answer = made.json()
    assert (answer["status"], answer["output"]["sizes"]) == ("succeeded", [2])
    assert answer["summary"] == "counted"
    artifact = await client.get(f"/runs/{answer['run_id']}/artifacts/sizes.txt")
    assert artifact.text == "[2]"
    assert artifact.headers["content-disposition"].startswith("attachment")
    assert artifact.headers["x-content-type-options"] == "nosniff"
    items = (await client.get(f"/runs/{answer['run_id']}/artifacts")).json()["items"]
    assert [item["name"] for item in items] == ["sizes.txt"]


async def test_a_failed_run_answers_200_and_wrong_parameters_422(client: httpx.AsyncClient) -> None:
    failed = await client.post(
        "/skills/mine/execute", json={"parameters": {"action": "break_down"}}
    )
    assert (failed.status_code, failed.json()["status"]) == (200, "failed")
    assert failed.json()["error"]
    wrong = await client.post("/skills/mine/execute", json={"parameters": {"action": "x"}})
    assert wrong.status_code == 422
    assert "action" in wrong.json()["errors"]
    absent = await client.post("/skills/absent/execute", json={})
    assert absent.status_code == 404
    later = await client.post(
        "/skills/template-skill/execute", json={"parameters": {"text": "x"}, "background": True}
    )
    assert (later.status_code, later.json()["status"]) == (202, "running")
    told = await client.get(f"/skills/runs/{later.json()['run_id']}")
    assert told.status_code == 200


def test_files_are_found_wherever_a_schema_has_them() -> None:
    schema = {
        "properties": {
            "one": {"type": "string", "format": "file"},
            "many": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
            "text": {"type": "string"},
        },
        "$defs": {
            "Part": {"properties": {"source": {"anyOf": [{"format": "folder"}, {"type": "null"}]}}}
        },
    }
    value = {"one": "a", "many": [{"source": "b"}, {"source": None}], "text": "c"}
    assert dict(references(schema, value)) == {
        ("one",): "file",
        ("many", 0, "source"): "folder",
    }


async def test_the_files_of_a_skill_are_those_in_its_folder(stack: Stack, tmp_path: Path) -> None:
    folder = stack.settings.config_dir / "skills" / "linked"
    place(folder.parent, "linked", code="")
    (tmp_path / "secret.txt").write_text("a secret")
    (folder / "away.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "near.txt").symlink_to(folder / "SKILL.md")
    with (folder / "large.bin").open("wb") as sparse:
        sparse.truncate(FILE_BYTES + 1)
    assert list(await stack.skills.files("linked")) == ["SKILL.md", "large.bin", "near.txt"]
    assert list(await stack.skills.contents("linked")) == ["SKILL.md", "near.txt"]
    with pytest.raises(NotFound):
        await stack.skills.file("linked", "away.txt")
    with pytest.raises(TooLarge):
        await stack.skills.file("linked", "large.bin")


async def test_another_version_of_a_skill_is_seen_though_its_time_is_the_same(
    stack: Stack,
) -> None:
    skills = stack.settings.config_dir / "skills"
    place(skills, "versioned", code="")
    manifest = skills / "versioned" / "SKILL.md"
    assert await stack.skills.instructions("versioned") == "Read me first."
    before = manifest.stat()
    other = manifest.with_name("other")
    other.write_text(manifest.read_text().replace("first", "second"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(manifest)
    assert await stack.skills.instructions("versioned") == "Read me second."


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a.txt", os.urandom(64).hex() * 64)
    damaged = bytearray(archive.read_bytes())
    damaged[60:90] = b"\xff" * 30
    archive.write_bytes(damaged)
    with pytest.raises(InvalidRequest):
        unpacked(archive, tmp_path / "out")


TRIED = '''
import os
from ai_stack.skill import Skill, SkillResult, action

class Tried(Skill):
    @action
    async def look(self) -> SkillResult:
        """Look at what it is given."""
        self.context.artifact("seen.txt").write_text("here")
        return SkillResult({"secret": os.environ.get("OF_A_SKILL"), "home": os.listdir(HOME)})
'''


@pytest.mark.parametrize(("secret", "status"), [("known", 0), ("another", 1)])
def test_a_trial_of_ones_own_skill_gives_what_a_stack_gives(
    secret: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "note").touch()
    place(
        tmp_path,
        "tried",
        f"HOME = {str(tmp_path / 'home')!r}\n{TRIED}",
        f"---\nname: tried\ndescription: x\nmetadata:\n  ai-stack-secrets: OF_A_SKILL\n"
        f"  ai-stack-reads: {tmp_path / 'home'}\n---\nRun it.",
    )
    output = {"secret": "known", "home": ["note"]}
    example = {"about": "Looks.", "parameters": {}, "output": output, "artifacts": ["seen.txt"]}
    (tmp_path / "tried" / "examples.json").write_text(json.dumps([example]))
    monkeypatch.setenv("OF_A_SKILL", secret)
    shown = CliRunner().invoke(cli.app, ["test", str(tmp_path / "tried")])
    assert (shown.exit_code, "Looks." in shown.output) == (status, True), shown.output
    assert CliRunner().invoke(cli.app, ["validate", str(tmp_path / "tried")]).exit_code == 0
