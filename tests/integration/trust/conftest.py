"""A gateway that wants to know who asks, its operator, and a user."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from accounts import GOOD, OPERATOR
from ai_stack.cli.credentials import Credentials
from ai_stack.models.principals import DEFAULT_PROJECT
from ai_stack.models.trust import NewUser
from ai_stack.settings import Settings
from ai_stack.stack import Stack
from gateways import gateway


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(autouse=True)
def nothing_failed_before(owner: psycopg.Connection[Any]) -> None:
    owner.execute("DELETE FROM control.attempts")


@pytest.fixture(scope="module")
async def client(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Who shows nothing, at a gateway that wants to know who asks."""
    async with gateway(memory_settings.model_copy(update={"auth": "required"})) as opened:
        yield opened


@pytest.fixture
def operator(memory_settings: Settings) -> Credentials:
    return Credentials(None, memory_settings.secrets / "operator")


@pytest.fixture
async def name(stack: Stack, owner: psycopg.Connection[Any]) -> str:
    """A user with the password GOOD, an editor of the default project."""
    new = NewUser(f"user-{uuid4().hex}", GOOD)
    made, _ = await stack.accounts.users.create(OPERATOR, new)
    member = (DEFAULT_PROJECT, made.id)
    owner.execute("INSERT INTO control.members VALUES (%s, %s, 'editor')", member)
    return made.name
