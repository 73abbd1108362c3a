"""Projects over HTTP: who may make, change and see them, and who works in them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import psycopg
import pytest

from ai_stack.models.principals import DEFAULT_PROJECT
from ai_stack.settings import Settings
from ai_stack.stack import open_stack
from gateways import worker
from tenants import Caller, Gateway, guarded

EVERYTHING = ("read", "write", "infer", "skills", "agent", "manage", "operate")


@pytest.fixture(scope="module")
async def gate(memory_settings: Settings) -> AsyncIterator[Gateway]:
    async with guarded(memory_settings) as opened:
        yield opened


@pytest.fixture
async def project(gate: Gateway) -> str:
    return await gate.project(f"project {uuid4()}x")


@pytest.fixture
def people(database_url: str):
    """Makes users, and keys of theirs by name of their role."""

    def make(name: str) -> str:
        id = uuid4()
        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute("INSERT INTO control.users (id, name) VALUES (%s, %s)", (id, name))
        return str(id)

    return make


async def own_key(gate: Gateway, database_url: str, user: str, *projects: str) -> Caller:
    """A key that belongs to a user."""
    caller = await gate.key(*projects, scopes=EVERYTHING)
    id = (await caller.told("GET", "/auth/me"))["key_id"]
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("UPDATE control.keys SET user_id = %s WHERE id = %s", (user, id))
    async with asyncio.timeout(2):  # as soon as the gateway has heard of it
        while (await caller.told("GET", "/auth/me"))["user_id"] != user:
            await asyncio.sleep(0.01)
    return caller


async def until(caller: Caller, method: str, path: str, status: int, body=None) -> None:
    """Ask until the answer is as it should be, as soon as the gateway has heard of a change."""
    async with asyncio.timeout(2):
        while (await caller.ask(method, path, body)).status_code != status:
            await asyncio.sleep(0.01)


async def test_a_project_is_made_renamed_limited_and_listed(gate: Gateway) -> None:
    operator = gate.operator
    body = {"name": "Ärzte & Söhne", "limits": {"requests_per_minute": 60}}
    made = await operator.told("POST", "/projects", body)
    assert made["state"] == "active"
    for called in (made["id"], made["id"].upper(), "%C3%84rzte%20%26%20S%C3%B6hne"):
        assert (await operator.told("GET", f"/projects/{called}"))["id"] == made["id"]
    path = f"/projects/{made['id']}"
    changed = await operator.told("PATCH", path, {"name": "Praxis"})
    assert (changed["name"], changed["limits"]) == ("Praxis", {"requests_per_minute": 60})
    changed = await operator.told("PATCH", path, {"limits": {}})
    assert changed["limits"] == {}
    assert made["id"] in [p["id"] for p in (await operator.told("GET", "/projects"))["items"]]


@pytest.mark.parametrize(
    "name",
    [
        *("", " x", "x ", "a\nb", "a\x00b", "x" * 101, "\u202eevil", "a\u200bb", "\ud800"),
        *(str(UUID(int=7)), UUID(int=7).hex, f"{{{UUID(int=7)}}}", f"urn:uuid:{UUID(int=7)}"),
    ],
)
async def test_a_name_that_cannot_be_one_is_refused(gate: Gateway, name: str) -> None:
    try:
        answer = await gate.operator.ask("POST", "/projects", {"name": name})
    except UnicodeEncodeError:
        return
    assert answer.status_code == 422


async def test_a_name_is_taken_once_however_it_is_composed(gate: Gateway) -> None:
    together = await asyncio.gather(
        *(gate.operator.ask("POST", "/projects", {"name": "caf\u00e9"}) for _ in range(4)),
        gate.operator.ask("POST", "/projects", {"name": "cafe\u0301"}),
    )
    assert sorted(a.status_code for a in together) == [201, 409, 409, 409, 409]
    other = await gate.project("tea")
    renamed = await gate.operator.ask("PATCH", f"/projects/{other}", {"name": "caf\u00e9"})
    assert renamed.status_code == 409


async def test_limits_that_cannot_be_kept_are_refused(gate: Gateway, project: str) -> None:
    for limits in ({"dreams_per_day": 1}, {"tokens_per_day": -1}, {"tokens_per_day": "x"}):
        answer = await gate.operator.ask("PATCH", f"/projects/{project}", {"limits": limits})
        assert answer.status_code == 422


async def test_without_rights_nothing_is_made_changed_or_seen(gate: Gateway, project: str) -> None:
    stranger = await gate.tenant(f"other {uuid4()}x", ("read", "write", "manage"))
    path = f"/projects/{project}"
    asked = [
        ("POST", "/projects", {"name": "mine"}, 403),
        ("GET", path, None, 404),
        ("PATCH", path, {"name": "mine"}, 404),
        ("PUT", f"{path}/state", {"state": "suspended"}, 403),
        ("DELETE", path, None, 403),
        ("GET", f"{path}/members", None, 404),
        ("POST", f"{path}/members", {"user": "x", "role": "owner"}, 404),
        ("DELETE", f"{path}/members/x", None, 404),
    ]
    for method, target, body, status in asked:
        answer = await stranger.ask(method, target, body)
        assert answer.status_code == status, (method, target, answer.text)
    listed = (await stranger.told("GET", "/projects"))["items"]
    assert [one["id"] for one in listed] == [stranger.project]


async def test_a_key_without_manage_does_not_manage(gate: Gateway, project: str) -> None:
    reader = await gate.key(project, scopes=("read",))
    path = f"/projects/{project}"
    assert (await reader.told("GET", path))["id"] == project
    for method, target, body in (
        ("PATCH", path, {"name": "mine"}),
        ("GET", f"{path}/members", None),
        ("POST", f"{path}/members", {"user": "x", "role": "reader"}),
    ):
        assert (await reader.ask(method, target, body)).status_code == 403


async def test_who_manages_two_projects_changes_each_without_saying_twice_which(
    gate: Gateway, project: str
) -> None:
    other = await gate.project(f"second {uuid4()}x")
    manager = await gate.key(project, other, scopes=("read", "manage"))
    for one in (project, other):
        name = f"renamed {one}x"
        assert (await manager.told("PATCH", f"/projects/{one}", {"name": name}))["name"] == name


async def test_members_come_go_and_change_their_roles(
    gate: Gateway, project: str, people, database_url: str
) -> None:
    ann, bob = people("ann"), people("bob")
    path = f"/projects/{project}/members"
    await gate.operator.told("POST", path, {"user": "ann", "role": "owner"})
    owner = await own_key(gate, database_url, ann, project)
    limits = await owner.ask("PATCH", f"/projects/{project}", {"limits": {}})
    assert limits.status_code == 403  # who is limited does not lift the limit
    added = await owner.told("POST", path, {"user": "bob", "role": "reader"})
    assert added == {"user_id": bob, "user": "bob", "role": "reader"}
    theirs = await own_key(gate, database_url, bob, project)
    assert (await theirs.told("GET", f"/projects/{project}"))["role"] == "reader"
    document = {"content": "x"}
    assert (await theirs.ask("POST", "/documents", document)).status_code == 403
    await owner.told("POST", path, {"user": bob, "role": "editor"})
    await until(theirs, "POST", "/documents", 201, document)
    items = (await owner.told("GET", path, params={"limit": 1}))["items"]
    assert len(items) == 1
    await owner.told("DELETE", f"{path}/{bob}")
    await until(theirs, "GET", "/documents", 403)
    assert (await owner.ask("DELETE", f"{path}/{bob}")).status_code == 404
    assert (await owner.ask("POST", path, {"user": "nobody", "role": "reader"})).status_code == 404
    told = [e["action"] for e in (await owner.told("GET", "/audit"))["items"]]
    assert told.count("member.add") == 3
    assert told.count("member.remove") == 1


async def test_a_key_that_operates_makes_nobody_more_than_it_is(
    gate: Gateway, people, project: str
) -> None:
    people("greta")
    metrics = await gate.key(project, scopes=["operate"])
    for role in ("owner", "editor", "reader"):
        answer = await metrics.ask(
            "POST", f"/projects/{project}/members", {"user": "greta", "role": role}
        )
        assert answer.status_code == 403
    made = await metrics.ask("POST", "/projects", {"name": f"mine {uuid4()}x", "owner": "greta"})
    assert made.status_code == 403


async def test_the_last_owner_stays_but_for_an_operator(
    gate: Gateway, project: str, people, database_url: str
) -> None:
    carla, dora = people("carla"), people("dora")
    path = f"/projects/{project}/members"
    for user in (carla, dora):
        await gate.operator.told("POST", path, {"user": user, "role": "owner"})
    owner, other = [await own_key(gate, database_url, u, project) for u in (carla, dora)]
    answers = await asyncio.gather(
        owner.ask("DELETE", f"{path}/{carla}"), other.ask("DELETE", f"{path}/{dora}")
    )
    assert sorted(a.status_code for a in answers) in ([204, 409], [204, 403])
    left = (await gate.operator.told("GET", path))["items"]
    assert len(left) == 1
    last = owner if left[0]["user_id"] == carla else other
    demoted = await last.ask("POST", path, {"user": left[0]["user"], "role": "reader"})
    assert demoted.status_code == 409
    await gate.operator.told("DELETE", f"{path}/{left[0]['user_id']}")
    assert (await gate.operator.told("GET", path))["items"] == []


async def test_nobody_gives_a_role_that_may_do_more(gate: Gateway, project: str, people) -> None:
    emil = people(f"emil-{uuid4()}")
    manager = await gate.key(project, scopes=("read", "infer", "manage"))
    path = f"/projects/{project}/members"
    assert (await manager.ask("POST", path, {"user": emil, "role": "owner"})).status_code == 403
    assert (await manager.ask("POST", path, {"user": emil, "role": "reader"})).status_code == 200


async def test_nobody_works_in_a_suspended_project(gate: Gateway, project: str) -> None:
    caller = await gate.key(project)
    assert (await caller.ask("GET", "/documents")).status_code == 200
    state = f"/projects/{project}/state"
    await gate.operator.told("PUT", state, {"state": "suspended"})
    await gate.operator.told("PUT", state, {"state": "suspended"})
    await until(caller, "GET", "/documents", 403)
    assert (await gate.operator.told("GET", f"/projects/{project}"))["state"] == "suspended"
    await gate.operator.told("PATCH", f"/projects/{project}", {"limits": {"requests_per_day": 9}})
    await gate.operator.told("PUT", state, {"state": "active"})
    await until(caller, "GET", "/documents", 200)


async def test_the_default_project_is_always_there(gate: Gateway) -> None:
    path = f"/projects/{DEFAULT_PROJECT}"
    assert (await gate.operator.ask("DELETE", path)).status_code == 409
    suspended = await gate.operator.ask("PUT", f"{path}/state", {"state": "suspended"})
    assert suspended.status_code == 409
    assert (await gate.operator.told("GET", path))["state"] == "active"


async def test_a_project_is_chosen_by_name_whatever_its_letters(gate: Gateway) -> None:
    made = await gate.operator.told("POST", "/projects", {"name": "Überblick"})
    headers = {"X-Project": "Überblick".encode()}
    me = await gate.operator.told("GET", "/auth/me", headers=headers)
    assert me["project_id"] == made["id"]


async def test_hostile_ids_are_not_found(gate: Gateway) -> None:
    for id in ("%00", "..%2Fkeys", "'%20OR%201=1", "%F0%9F%92%A9", "x" * 5000):
        assert (await gate.operator.ask("GET", f"/projects/{id}")).status_code == 404


async def test_the_command_line_does_all_of_it(
    gate: Gateway, memory_settings: Settings, people
) -> None:
    token = gate.operator.headers["Authorization"].removeprefix("Bearer ")
    people("frida")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(memory_settings.config_dir),
        "AI_STACK_URL": str(gate.http.base_url),
        "AI_STACK_KEY": token,
    }

    async def ran(*arguments: str, status: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ai_stack", "projects", *arguments),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == status, said.decode()
        return said.decode()

    assert "is made" in await ran("create", "atelier", "--limit", "requests_per_day=9")
    assert "NAME=NUMBER" in await ran("create", "x", "--limit", "many", status=2)
    assert "atelier" in await ran("list", "--all")
    assert "requests_per_day 9" in await ran("show", "atelier")
    assert "no limits" in await ran("limits", "atelier")
    assert "studio" in await ran("rename", "atelier", "studio")
    assert "frida is owner" in await ran("members", "add", "studio", "frida", "--role", "owner")
    assert "owner" in await ran("members", "list", "studio")
    assert "no member" in await ran("members", "remove", "studio", "frida")
    assert "suspended" in await ran("suspend", "studio")
    assert "open" in await ran("resume", "studio")
    assert "Abort" in await ran("delete", "studio", status=1)
    async with open_stack(memory_settings) as opened, worker(opened):
        assert "is deleted" in await ran("delete", "studio", "--yes")
    assert "no project" in await ran("show", "studio", status=1)


async def test_a_deletion_that_was_given_up_is_begun_again(
    gate: Gateway, project: str, database_url: str
) -> None:
    path = f"/projects/{project}"
    first = await gate.operator.told("DELETE", path)
    assert (await gate.operator.told("GET", path))["deletion"]["status"] == "queued"
    await gate.operator.told("DELETE", f"/runs/{first['id']}")
    assert (await gate.operator.told("DELETE", path))["id"] == first["id"]
    together = await asyncio.gather(*(gate.operator.told("DELETE", path) for _ in range(4)))
    assert {run["id"] for run in together} == {first["id"]}
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("DELETE FROM aidb.runs WHERE id = %s", (first["id"],))
    again = await gate.operator.told("DELETE", path)
    assert again["id"] != first["id"]
    assert again["input"] == {"project": project}
