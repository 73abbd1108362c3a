"""The oldest PostgreSQL that is supported, and servers that are refused."""

from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

import servers
from ai_stack.database import open_database
from ai_stack.database.migrating import migrate
from ai_stack.errors import StackError
from ai_stack.models.documents import NewDocument
from ai_stack.models.filters import parse_filter
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchRequest
from ai_stack.settings import Settings
from ai_stack.stack import open_stack

ME = Principal()


def migrated(url: str) -> str:
    with psycopg.connect(url.format(database="postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE stack")
    made = url.format(database="stack")
    assert migrate(made) == migrate(made)
    return made


async def test_everything_works_on_postgresql_16(tmp_path: Path) -> None:
    with servers.postgres(16) as url:
        settings = Settings(
            data_dir=tmp_path,
            config_dir=tmp_path,
            database_url=SecretStr(migrated(url)),
            redis_url=SecretStr("memory:"),
            vectors_url=SecretStr("pgvector:"),
            embedder_url=SecretStr("memory:"),
        )
        async with open_stack(settings) as stack:
            new = NewDocument("Herons stand in shallow water.", {"legs": 2}, key="heron")
            assert (await stack.documents.add(ME, [new])).settled
            asked = SearchRequest("herons in water", filter=parse_filter({"legs": {"lt": 3}}))
            found = await stack.search.search(asked, ME)
            assert [r.document.id for r in found.results] == ["heron"]
            await stack.documents.delete(ME, "heron")
            assert (await stack.search.search(asked, ME)).results == []
            run = await stack.runs.start(ME, "fsck", {})
            assert (await stack.runs.get(ME, run.id)).status == "queued"


@pytest.mark.parametrize("option", ["fsync=off", "full_page_writes=off"])
async def test_a_server_that_could_lose_data_is_refused(option: str) -> None:
    with servers.postgres(18, "-c", option) as url:
        made = migrated(url)
        with pytest.raises(StackError, match="would lose"):
            await open_database(made)


async def test_a_role_that_could_read_the_tables_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("GRANT SELECT ON aidb.documents TO aidb_gateway")
    with pytest.raises(StackError, match="behind the tenants"):
        await open_database(database_url)


async def test_a_newer_database_is_left_alone(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("UPDATE aidb.alembic_version SET version_num = '9999'")
    with pytest.raises(StackError, match="newer than this version"):
        migrate(database_url)
