"""One PostgreSQL for a test session, and a database of its own for each test file."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import servers

from ai_stack.database import Database, open_database
from ai_stack.database.migrating import migrate


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
