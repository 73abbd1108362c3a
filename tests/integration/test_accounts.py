"""Users, their logins and their tokens, on a real PostgreSQL."""

from uuid import uuid4

import psycopg
import pytest

from ai_stack.errors import Unauthenticated
from ai_stack.stack import Stack


@pytest.fixture
async def user(stack: Stack):
    id = stack.database.new_id()
    async with stack.database.control() as tx:
        await tx.execute(
            "INSERT INTO users (id, name, is_admin) VALUES (%(id)s, %(name)s, true)",
            {"id": id, "name": f"user-{id.hex}"},
        )
    return id


async def test_a_login_holds_until_it_is_ended(stack: Stack, user) -> None:
    token = await stack.accounts.logins.begin(user, "shell")
    found = await stack.identity.credential(token)
    assert found.owner.id == user
    assert await stack.accounts.logins.end(token) == user
    assert await stack.accounts.logins.end(token) is None
    with pytest.raises(Unauthenticated):
        await stack.identity.credential(token)


async def test_all_logins_of_a_user_end_together(stack: Stack, user) -> None:
    tokens = [await stack.accounts.logins.begin(user, "browser") for _ in range(3)]
    assert await stack.accounts.logins.end_all(user) == 3
    assert [await stack.accounts.logins.read(token) for token in tokens] == [None] * 3


async def test_nobody_logs_in_who_is_not_there(stack: Stack) -> None:
    with pytest.raises(Unauthenticated):
        await stack.accounts.logins.begin(uuid4(), "browser")


async def test_a_token_is_not_in_the_database(stack: Stack, user, database_url: str) -> None:
    token = await stack.accounts.logins.begin(user, "shell")
    with psycopg.connect(database_url) as owner:
        rows = owner.execute("SELECT logins::text FROM control.logins").fetchall()
    assert rows
    assert not any(token[12:] in row[0] for row in rows)


async def test_logins_that_are_over_hold_no_more_and_are_swept(
    stack: Stack, user, database_url: str
) -> None:
    token = await stack.accounts.logins.begin(user, "shell")
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(
            "UPDATE control.logins SET expires_at = now() - interval '1s' WHERE user_id = %s",
            [user],
        )
    with pytest.raises(Unauthenticated):
        await stack.identity.credential(token)
    assert await stack.accounts.logins.sweep() == 1
    assert await stack.accounts.logins.sweep() == 0
