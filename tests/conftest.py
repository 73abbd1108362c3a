"""One PostgreSQL for a test session, and a database of its own for each test file."""

import signal
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from pydantic import SecretStr

import servers
from ai_stack.database import Database, open_database
from ai_stack.database.migrating import migrate
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack

# A shell has what it starts in the background ignore interrupts, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL template of a running server whose database `template` is migrated."""
    with servers.postgres() as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE template_stack")
        migrate(url.format(database="template_stack"))
        yield url


@pytest.fixture(scope="module")
def database_url(postgres_url: str, request: pytest.FixtureRequest) -> str:
    """A fresh migrated database for this test file."""
    name = "t_" + request.module.__name__.rpartition(".")[2].removeprefix("test_")
    with psycopg.connect(postgres_url.format(database="postgres"), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name}")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template_stack STRATEGY file_copy")
    return postgres_url.format(database=name)


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await open_database(database_url)
    yield opened
    await opened.aclose()


@pytest.fixture(scope="module")
def memory_settings(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a stack on a real PostgreSQL and otherwise in memory."""
    folder = tmp_path_factory.mktemp("stack")
    return Settings(
        data_dir=folder / "data",
        config_dir=folder / "config",
        database_url=SecretStr(database_url),
        redis_url=SecretStr("memory:"),
        vectors_url=SecretStr("memory:"),
        embedder_url=SecretStr("memory:"),
        engines=SecretStr("memory:"),
    )


@pytest.fixture(scope="module")
async def stack(memory_settings: Settings) -> AsyncIterator[Stack]:
    """The services over a real PostgreSQL, with the other doors in memory."""
    async with open_stack(memory_settings) as opened:
        yield opened
