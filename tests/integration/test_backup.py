"""Backups of real servers: out of one PostgreSQL into another, checked, replaced, to a moment."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pyrage
import pytest
from pydantic import SecretStr

import servers
from ai_stack.caches import copies
from ai_stack.caches.conversations import open_conversations
from ai_stack.caches.counters import Count, open_counters
from ai_stack.database import Database, dumps, open_database, replacing
from ai_stack.database.migrating import migrate, revisions
from ai_stack.errors import Conflict, DatabaseUnavailable, StackError, Unavailable
from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal
from ai_stack.services.backup import Manifest, bundle, shelf
from ai_stack.services.backup.creating import Made, create
from ai_stack.services.backup.restoring import Wish, restore
from ai_stack.services.backup.schedule import Daily
from ai_stack.services.backup.standby import standby_of
from ai_stack.services.backup.verifying import verify
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack
from ai_stack.supervisor import folder, swap
from stacks import stack as supervised

ME = Principal()
COUNT = 30


@pytest.fixture(scope="module")
async def filled(stack: Stack, memory_settings: Settings) -> Settings:
    """Documents with metadata, keys of their own, and vectors given and embedded."""
    vector = [0.5] * 383 + [1.0]
    new = [NewDocument(f"document {n} of lanterns", {"n": n}, key=f"key-{n}") for n in range(COUNT)]
    await stack.documents.add(ME, new)
    dimensions = (await stack.models.active()).model.dimensions
    given = NewDocument("given", {"é": [1, None, {"x": "\u2028"}]}, vector=vector[-dimensions:])
    await stack.documents.add(ME, [given])
    imports = memory_settings.data_dir / "imports"
    imports.mkdir(parents=True, exist_ok=True)
    (imports / "a b.md").write_text("a file")
    skill = memory_settings.config_dir / "skills" / "mine"
    skill.mkdir(parents=True, exist_ok=True)
    (skill / "SKILL.md").write_text("a skill")
    (memory_settings.config_dir / ".env").write_text("AI_STACK_KEY=hush\nAI_STACK_SKILL_RUNS=3\n")
    return memory_settings


@pytest.fixture(scope="module")
async def made(filled: Settings) -> Made:
    return await create(filled)


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """A database with nothing in it."""
    name = "restored"
    with psycopg.connect(postgres_url.format(database="postgres"), autocommit=True) as admin:
        for each in (name, name + replacing.RESTORING, name + replacing.REPLACED):
            admin.execute(f"DROP DATABASE IF EXISTS {each} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name}")
    yield postgres_url.format(database=name)


def elsewhere(settings: Settings, folder: Path, url: str) -> Settings:
    given = {"data_dir": folder / "data", "config_dir": folder / "config"}
    return settings.model_copy(update={**given, "database_url": SecretStr(url)})


def rows(url: str) -> dict[str, Any]:
    """Every document, key and vector of a database."""
    tables = ("documents", "document_keys", "embeddings")
    with psycopg.connect(url) as connection:
        return {
            table: sorted(
                connection.execute(f"SELECT t::text FROM aidb.{table} t").fetchall(),
            )
            for table in tables
        }


async def test_a_server_is_restored_to_the_byte(
    made: Made, filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    target = elsewhere(filled, tmp_path, empty_url)
    found = await restore(target, made.path, [])
    assert rows(empty_url) == rows(str(filled.database))
    assert found.documents == COUNT + 1
    assert found.revision == revisions()[-1]
    assert (target.data_dir / "imports" / "a b.md").read_text() == "a file"
    assert (target.config_dir / "skills/mine/SKILL.md").read_text() == "a skill"
    assert (target.config_dir / ".env").read_text() == "AI_STACK_SKILL_RUNS=3\n"
    assert not (target.data_dir / "secrets").exists()
    assert await dumps.run_status(empty_url, found.reindexed) == "queued"
    async with open_stack(target) as again:
        listed = await again.documents.page(ME, limit=100)
        assert len(listed.items) == COUNT + 1
        await again.documents.add(ME, [NewDocument("one more", {}, key="more")])


async def test_data_are_replaced_only_when_asked_for(
    made: Made, filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    migrate(empty_url)
    target = elsewhere(filled, tmp_path, empty_url)
    before = rows(empty_url)
    with pytest.raises(Conflict, match="--replace"):
        await restore(target, made.path, [])
    assert rows(empty_url) == before
    assert not target.data_dir.exists()
    with psycopg.connect(empty_url) as connected:  # a gateway that is at work
        connected.execute("SELECT 1")
        found = await restore(target, made.path, [], Wish(replace=True))
        with pytest.raises(psycopg.OperationalError):
            connected.execute("SELECT 1")
    assert found.documents == COUNT + 1
    assert rows(empty_url) == rows(str(filled.database))
    assert databases(empty_url) == ["restored"]


async def test_what_is_replaced_can_be_kept(
    made: Made, filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    migrate(empty_url)
    target = elsewhere(filled, tmp_path, empty_url)
    await restore(target, made.path, [], Wish(replace=True, keep=True))
    assert databases(empty_url) == ["restored", "restored_replaced"]
    before = rows(empty_url)
    with pytest.raises(StackError, match="restored_replaced is there"):
        await restore(target, made.path, [], Wish(replace=True))
    assert databases(empty_url) == ["restored", "restored_replaced"]
    assert rows(empty_url) == before


async def test_secrets_elsewhere_are_kept_with_what_is_replaced(
    filled: Settings, stack: Stack, empty_url: str, tmp_path: Path
) -> None:
    key = pyrage.x25519.Identity.generate()
    sealed = filled.model_copy(update={"backup_recipients": str(key.to_public())})
    made = await create(sealed)
    place = tmp_path / "apart" / "secrets"
    target = elsewhere(filled, tmp_path, empty_url).model_copy(update={"secrets_dir": place})
    place.mkdir(parents=True)
    (place / "pepper").write_text("old")
    migrate(empty_url)
    await restore(target, made.path, [key], Wish(replace=True, keep=True))
    assert (place / "pepper").read_bytes() == (filled.secrets / "pepper").read_bytes()
    (kept,) = place.parent.glob("secrets.replaced-*")
    assert (kept / "pepper").read_text() == "old"
    made.path.unlink()


@pytest.mark.parametrize("is_filled", [True, False])
async def test_a_stack_that_does_not_stop_keeps_its_database(
    is_filled: bool, made: Made, filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    if is_filled:
        migrate(empty_url)
        fill(empty_url)
    before = rows(empty_url) if is_filled else None
    target = elsewhere(filled, tmp_path, empty_url)
    target.data_dir.mkdir()
    held = folder.lock(target.data_dir)  # it runs, and nobody answers who could stop it
    with held, pytest.raises(Unavailable, match="nothing was touched"):
        await restore(target, made.path, [], Wish(replace=is_filled))
    assert databases(empty_url) == ["restored"]
    assert await dumps.is_empty(empty_url) != is_filled
    assert before is None or rows(empty_url) == before
    assert swap.read(target.data_dir) is None


def fill(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO aidb.documents (project_id, content) SELECT id, 'since' FROM aidb.projects"
        )


async def test_all_is_as_before_where_a_database_cannot_be_renamed(
    made: Made, filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    migrate(empty_url)
    fill(empty_url)
    target, before = elsewhere(filled, tmp_path, empty_url), rows(empty_url)
    (target.data_dir / "imports").mkdir(parents=True)
    (target.data_dir / "imports" / "mine").write_text("old")
    # A receiver of its log, which a restore does not disconnect.
    with (
        psycopg.connect(empty_url, replication="database", autocommit=True),
        pytest.raises(StackError, match="is not replaced"),
    ):
        await restore(target, made.path, [], Wish(replace=True))
    assert rows(empty_url) == before
    assert databases(empty_url) == ["restored"]
    assert (target.data_dir / "imports" / "mine").read_text() == "old"
    assert swap.read(target.data_dir) is None


KILLING = """
import asyncio, os, signal, sys
from pathlib import Path
from ai_stack.services.backup.restoring import Wish, restore
from ai_stack.settings import load_settings
from ai_stack.supervisor import swap
to = swap.to
def killed(data, work, state):
    found = to(data, work, state)
    if state == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return found
swap.to = killed
if sys.argv[2] == "reverting":
    async def fail(*given):
        raise OSError
    swap._forward = fail
asyncio.run(restore(load_settings(), Path(sys.argv[1]), [], Wish(replace=True)))
"""


@pytest.mark.parametrize(
    ("at", "found"),
    [
        ("building", "old"),
        ("committed", "new"),
        ("swapped", "new"),
        ("served", "new"),
        ("reverting", "old"),
    ],
)
async def test_a_kill_leaves_the_old_or_the_new_database_and_its_files(
    at: str, found: str, made: Made, filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    migrate(empty_url)
    fill(empty_url)
    target, before = elsewhere(filled, tmp_path, empty_url), rows(empty_url)
    data = target.data_dir
    (data / "imports").mkdir(parents=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AI_STACK_DATA_DIR": str(data),
        "AI_STACK_CONFIG_DIR": str(tmp_path / "none"),
        "AI_STACK_DATABASE_URL": empty_url,
        "AI_STACK_REDIS_URL": "memory:",
        "AI_STACK_VECTORS_URL": "memory:",
    }
    command = [sys.executable, "-c", KILLING, str(made.path), at]
    done = await asyncio.to_thread(subprocess.run, command, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    with socket.create_server(("127.0.0.1", 0)) as taken:  # a start that comes no further
        environment["AI_STACK_PORT"] = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "ai_stack", "up"]
        done = await asyncio.to_thread(subprocess.run, command, env=environment, check=False)
    assert done.returncode == 1
    assert (data / "imports" / "a b.md").exists() == (found == "new")
    swap.answered(data)
    await swap.settle(data, standby_of(target))
    assert rows(empty_url) == (before if found == "old" else rows(str(filled.database)))
    assert (data / "imports" / "a b.md").exists() == (found == "new")
    assert databases(empty_url) == ["restored"]
    assert swap.read(data) is None


def databases(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        query = "SELECT datname FROM pg_database WHERE datname LIKE 'restored%' ORDER BY 1"
        return [row[0] for row in connection.execute(query)]


async def test_an_encrypted_backup_carries_the_secrets(
    filled: Settings, stack: Stack, empty_url: str, tmp_path: Path
) -> None:
    key = pyrage.x25519.Identity.generate()
    sealed = filled.model_copy(update={"backup_recipients": str(key.to_public())})
    made = await create(sealed)
    assert made.manifest.header.encrypted
    target = elsewhere(filled, tmp_path, empty_url)
    for keys, word in (([], "--identity"), ([pyrage.x25519.Identity.generate()], "another key")):
        with pytest.raises(StackError, match=word):
            await restore(target, made.path, keys)
        assert not target.data_dir.exists()
        assert await dumps.is_empty(empty_url)
    await restore(target, made.path, [key])
    for name in ("pepper", "operator"):
        assert (target.secrets / name).read_bytes() == (filled.secrets / name).read_bytes()
    assert "AI_STACK_KEY=hush" in (target.config_dir / ".env").read_text()
    made.path.unlink()


async def test_a_bad_backup_touches_nothing(
    made: Made, filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    target = elsewhere(filled, tmp_path, empty_url)
    content = made.path.read_bytes()
    for name, bad in {
        "flipped": content[:-5000] + bytes([content[-5000] ^ 1]) + content[-4999:],
        "truncated": content[: len(content) // 2],
        "foreign": os.urandom(10_000),
    }.items():
        path = tmp_path / name
        path.write_bytes(bad)
        with pytest.raises(StackError):
            await restore(target, path, [])
    for change, word in (
        ({"header": replace(made.manifest.header, revision="9999")}, "newer"),
        ({"database_bytes": 1 << 60}, "MiB free"),
    ):
        path = tmp_path / word
        rewrite(made.path, path, **change)
        where = target if word == "newer" else target.model_copy(update={"database_url": None})
        with pytest.raises(StackError, match=word):
            await restore(where, path, [])
    assert await dumps.is_empty(empty_url)
    assert not target.data_dir.exists()


def rewrite(source: Path, target: Path, **changes: Any) -> None:
    """The same bundle, whole, with another manifest."""
    with bundle.opened(source, []) as reader:
        files = [(entry.name, b"".join(entry.pieces())) for entry in reader.entries()]
        manifest = reader.manifest
    assert manifest is not None
    changed: Manifest = replace(manifest, **changes)
    with target.open("wb") as file, bundle.create(file, changed.header, [], 0) as writer:
        for name, content in files:
            writer.add(name, content)
        writer.manifest(changed)


async def test_a_database_that_is_not_what_was_backed_up_is_refused(
    made: Made, filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    target = elsewhere(filled, tmp_path, empty_url)
    counts = {**made.manifest.counts, "aidb.documents": 1, "aidb.gone": 3}
    rewrite(made.path, tmp_path / "fewer", counts=counts)
    with pytest.raises(StackError, match=r"aidb\.gone has None rows and not 3"):
        await restore(target, tmp_path / "fewer", [])
    assert await dumps.is_empty(empty_url)
    assert not [p for p in target.data_dir.iterdir() if p.name != "restore.lock"]


@pytest.mark.parametrize(("source", "target"), [(16, 18), (18, 16), (16, 16)])
async def test_between_versions_of_postgresql(
    source: int, target: int, filled: Settings, tmp_path: Path
) -> None:
    with servers.postgres(source) as one, servers.postgres(target) as other:
        old, new = one.format(database="postgres"), other.format(database="postgres")
        migrate(old)
        settings = elsewhere(filled, tmp_path / "old", old)
        async with open_stack(settings) as opened:
            await opened.documents.add(ME, [NewDocument("travels", {"a": 1}, key="k")])
        made = await create(settings)
        assert made.manifest.header.postgres == source
        await restore(elsewhere(filled, tmp_path / "new", new), made.path, [])
        assert rows(new) == rows(old)


async def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    filled: Settings, empty_url: str, postgres_url: str, tmp_path: Path
) -> None:
    old = postgres_url.format(database="older")
    with psycopg.connect(postgres_url.format(database="postgres"), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS older WITH (FORCE)")
        admin.execute("CREATE DATABASE older")
    migrate_to(old, "0006")
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO aidb.documents (project_id, content)"
            " SELECT id, 'from before' FROM aidb.projects"
        )
    made = await create(elsewhere(filled, tmp_path / "old", old))
    assert made.manifest.header.revision == "0006"
    found = await restore(elsewhere(filled, tmp_path / "new", empty_url), made.path, [])
    assert found.revision == revisions()[-1]
    async with open_stack(elsewhere(filled, tmp_path / "new", empty_url)) as again:
        assert [d.content for d in (await again.documents.page(ME)).items] == ["from before"]


def migrate_to(url: str, revision: str) -> None:
    code = (
        "import sys\nfrom alembic import command\nfrom ai_stack.database import migrating\n"
        "upgrade = command.upgrade\n"
        f"command.upgrade = lambda config, head: upgrade(config, {revision!r})\n"
        "migrating.migrate(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)


async def test_verify_restores_into_servers_of_its_own(made: Made, filled: Settings) -> None:
    before = sorted(filled.data_dir.iterdir())
    found = await verify(filled, made.path, [], restored=True)
    assert found.depth == "restored"
    assert found.queries == len(made.manifest.probes) == 10
    assert found.rows == sum(made.manifest.counts.values())
    assert sorted(filled.data_dir.iterdir()) == before


async def test_nothing_is_left_of_a_backup_that_fails(filled: Settings, tmp_path: Path) -> None:
    nowhere = filled.model_copy(
        update={"database_url": SecretStr(f"postgresql://x@/y?host={tmp_path}")}
    )
    with pytest.raises(DatabaseUnavailable):
        await create(nowhere)
    count = len(shelf.shelved(filled.backups))
    task = asyncio.create_task(create(filled))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(shelf.shelved(filled.backups)) == count
    assert not list(filled.backups.glob("*/.*.part"))


async def test_sessions_and_limits_travel_with_the_time_they_have_left() -> None:
    with servers.redis() as one, servers.redis() as other:
        source, target = f"unix://{one.socket}", f"unix://{other.socket}"
        talks, counters = open_conversations(source), open_counters(source)
        for number in range(1200):
            await talks.create("s", f"{number:04}", b"head \x00\xff", 3600)
        await talks.append("s", "0007", b"turn", 3600)
        await counters.take(Count("rate", 10, 4, 3600))
        lines = [line async for line in copies.copy(source)]
        assert await copies.put(target, b"".join(lines).splitlines()) == 1202
        there, counted = open_conversations(target), open_counters(target)
        kept = await there.read("s", "0007")
        assert kept is not None
        assert (kept.head, list(kept.turns)) == (b"head \x00\xff", [b"turn"])
        assert len(await there.page("s", 2000, None)) == 1200
        assert (await counted.take(Count("rate", 10, 7, 3600))).granted == 0
        for opened in (talks, counters, there, counted):
            await opened.aclose()


@pytest.fixture
async def connected(filled: Settings) -> AsyncIterator[Database]:
    database = await open_database(str(filled.database), connections=2)
    yield database
    await database.aclose()


async def test_the_daily_backup_is_made_and_pruned(
    filled: Settings, connected: Database, tmp_path: Path
) -> None:
    settings = filled.model_copy(update={"backup_dir": tmp_path / "b", "backup_keep_days": 1})
    later = Daily(settings, connected, first_s=60, look_s=0.05)
    await for_a_while(later, 0.5)
    assert shelf.shelved(settings.backups) == []  # a stack that has just begun is left alone
    two = [Daily(settings, connected, first_s=0, look_s=0.05) for _ in range(2)]
    await asyncio.gather(*(for_a_while(each, 4) for each in two))
    assert len(shelf.shelved(settings.backups)) == 1


async def for_a_while(daily: Daily, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await daily.keep_making()


async def test_a_daily_backup_that_fails_is_told(
    filled: Settings, connected: Database, tmp_path: Path, stack: Stack
) -> None:
    settings = filled.model_copy(update={"backup_dir": tmp_path / "b"})

    async def fail(settings: Settings) -> None:
        raise StackError("The disk is gone.")

    await for_a_while(Daily(settings, connected, fail, first_s=0, look_s=0.05), 1)
    assert shelf.care(settings.backups).failure == "The disk is gone."
    await for_a_while(Daily(settings, connected, first_s=0, look_s=0.05), 3)
    assert shelf.care(settings.backups).failure == ""


PARTS = ("postgres", "roles", "redis-kept", "migrate")


async def test_from_embedded_to_a_server_whether_the_stack_runs_or_not(
    filled: Settings, empty_url: str, tmp_path: Path
) -> None:
    folder = Path("/tmp") / f"ai-stack-backup-{os.getpid()}"
    folder.mkdir()
    try:
        with supervised(folder / "data", chosen=PARTS) as running:
            await asyncio.to_thread(running.up, 120)
            running.sql(
                "INSERT INTO aidb.documents (project_id, content)"
                " SELECT id, 'embedded' FROM aidb.projects"
            )
            made = await create(running.settings)
            running.down()
            again = await create(running.settings)
            assert again.manifest.counts["aidb.documents"] == 1
            assert running.settings.backups.stat().st_uid == made.path.stat().st_uid
        found = await restore(elsewhere(filled, tmp_path, empty_url), again.path, [])
        assert found.documents == 1
    finally:
        shutil.rmtree(folder)


def test_the_old_database_of_a_server_comes_back_with_the_old_secrets(
    made: Made, empty_url: str
) -> None:
    place = Path("/tmp") / f"ai-stack-there-{os.getpid()}"
    place.mkdir()
    migrate(empty_url)
    fill(empty_url)
    try:
        wanted = {"AI_STACK_DATABASE_URL": empty_url, "AI_STACK_VECTORS_URL": "pgvector:"}
        with supervised(place / "data", chosen=("redis-kept",), **wanted) as running:
            (place / "data" / "imports").mkdir(parents=True)
            (place / "data" / "imports" / "mine").write_text("old")
            verb = [sys.executable, "-m", "ai_stack", "backup", "restore", str(made.path)]
            with socket.create_server(("127.0.0.1", running.settings.port)):
                done = subprocess.run(
                    [*verb, "--yes", "--replace"],
                    env=running.environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            assert "the old is back" in done.stderr
            with psycopg.connect(empty_url) as connection:
                query = "SELECT content FROM aidb.documents"
                assert connection.execute(query).fetchall() == [("since",)]
            assert databases(empty_url) == ["restored"]
            assert (place / "data" / "imports" / "mine").read_text() == "old"
            left = {path.name for path in (place / "data").iterdir()}
            assert not left & {swap.STAGING, swap.REPLACED, swap.JOURNAL}
    finally:
        shutil.rmtree(place)


def test_the_verbs_answer_in_json(made: Made, filled: Settings, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AI_STACK_DATA_DIR": str(filled.data_dir),
        "AI_STACK_CONFIG_DIR": str(tmp_path / "none"),
        "AI_STACK_DATABASE_URL": str(filled.database),
        "AI_STACK_REDIS_URL": "memory:",
        "AI_STACK_VECTORS_URL": "memory:",
    }

    def verb(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "ai_stack", "backup", *words]
        none = subprocess.DEVNULL  # nobody can be asked
        return subprocess.run(command, env=environment, stdin=none, capture_output=True, text=True)

    created = json.loads(verb("create", "--json").stdout)
    assert created["counts"]["aidb.documents"] == COUNT + 1
    listed = json.loads(verb("list", "--json").stdout)["items"]
    assert listed[0]["path"] == created["bundle"]
    assert json.loads(verb("verify", created["bundle"], "--json").stdout)["depth"] == "parts"
    refused = verb("restore", created["bundle"])
    assert (refused.returncode, "--yes" in refused.stderr) == (1, True)
    assert "--replace" in verb("restore", created["bundle"], "--yes").stderr
    assert json.loads(verb("prune", "--json").stdout)["removed"]
    assert Path(created["bundle"]).exists()
