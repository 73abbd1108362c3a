"""Stored responses on a real PostgreSQL: kept, followed, deleted, and walled by project."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from ai_stack.database import Database
from ai_stack.errors import InvalidRequest, NotFound
from ai_stack.models.principals import Principal
from ai_stack.services.inference import responses, stored
from ai_stack.services.inference.stored import StoredResponses, new_id

ME = Principal()
OTHER = replace(ME, project_id=UUID("00000000-0000-7000-8000-00000000000f"))


@pytest.fixture
def kept(database: Database) -> StoredResponses:
    return StoredResponses(database)


async def turn(
    kept: StoredResponses, said: Any, answered: str, previous: str | None = None
) -> dict[str, Any]:
    """A request answered and stored, and its Response."""
    request = {"model": "m", "input": said, "previous_response_id": previous}
    choice = {"message": {"content": answered}, "finish_reason": "stop"}
    id = new_id()
    made = responses.from_chat(request, {"choices": [choice]}, id=id, created_at=1)
    await kept.add(ME, responses.input_items(request, id=id), made)
    return made


async def test_what_is_stored_is_read_again_and_deleted(kept: StoredResponses) -> None:
    made = await turn(kept, "Hi", "Hello é 😀")
    assert await kept.get(ME, made["id"]) == made
    await kept.delete(ME, made["id"])
    for call in (kept.get, kept.delete, kept.input_items, kept.history):
        with pytest.raises(NotFound):
            await call(ME, made["id"])


async def test_other_projects_see_and_delete_nothing(kept: StoredResponses) -> None:
    made = await turn(kept, "a secret", "another")
    for call in (kept.get, kept.delete, kept.input_items, kept.history):
        with pytest.raises(NotFound):
            await call(OTHER, made["id"])
    assert await kept.get(ME, made["id"]) == made


@pytest.mark.parametrize("id", ["", "resp_" + "a" * 300, "a\x00b", "é", "a\nb"])
async def test_ids_that_none_can_have_are_not_found(kept: StoredResponses, id: str) -> None:
    with pytest.raises(NotFound):
        await kept.get(ME, id)


async def test_a_conversation_is_followed_to_its_beginning(kept: StoredResponses) -> None:
    first = await turn(kept, "one", "1")
    second = await turn(kept, "two", "2", first["id"])
    await turn(kept, "another", "branch", first["id"])
    third = await turn(kept, "three", "3", second["id"])
    items = await kept.history(ME, third["id"])
    chat = responses.to_chat({"input": "four"}, items)
    assert [m["content"] for m in chat["messages"]] == [
        "one",
        "1",
        "two",
        "2",
        "three",
        "3",
        "four",
    ]


async def test_a_conversation_with_a_gap_is_not_followed(kept: StoredResponses) -> None:
    first = await turn(kept, "one", "1")
    second = await turn(kept, "two", "2", first["id"])
    await kept.delete(ME, first["id"])
    with pytest.raises(NotFound) as missing:
        await kept.history(ME, second["id"])
    assert first["id"] in missing.value.message


async def test_a_conversation_has_bounds(
    kept: StoredResponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = None
    for n in range(4):
        last = (await turn(kept, f"question {n}", "x" * 100, last))["id"]
    monkeypatch.setattr(stored, "DEPTH", 4)
    assert len(await kept.history(ME, str(last))) == 8
    monkeypatch.setattr(stored, "DEPTH", 3)
    with pytest.raises(InvalidRequest) as refused:
        await kept.history(ME, str(last))
    assert list(refused.value.fields) == ["previous_response_id"]
    monkeypatch.setattr(stored, "DEPTH", 4)
    monkeypatch.setattr(stored, "HISTORY_BYTES", 500)
    with pytest.raises(InvalidRequest):
        await kept.history(ME, str(last))


async def test_input_items_come_in_pages(kept: StoredResponses) -> None:
    said = [{"role": "user", "content": str(n)} for n in range(5)]
    made = await turn(kept, said, "ok")
    seen: list[Any] = []
    after = None
    for _ in range(3):
        page = await kept.input_items(ME, made["id"], after=after, limit=2, order="asc")
        seen += page.items
        after = page.items[-1]["id"]
        assert page.has_more is (len(seen) < 5)
    assert [i["content"][0]["text"] for i in seen] == list("01234")
    newest = await kept.input_items(ME, made["id"], limit=1)
    assert newest.items == seen[-1:]
    for wrong in ({"after": "msg_none"}, {"limit": 0}, {"limit": 101}):
        with pytest.raises(InvalidRequest):
            await kept.input_items(ME, made["id"], **wrong)


async def test_what_postgresql_cannot_hold_is_replaced_or_refused(kept: StoredResponses) -> None:
    made = await turn(kept, "a\x00b \\u0000 \\\x00", "c\x00")
    (item,) = (await kept.input_items(ME, made["id"])).items
    assert item["content"][0]["text"] == "a\ufffdb \\u0000 \\\ufffd"
    output = (await kept.get(ME, made["id"]))["output"][0]["content"][0]["text"]
    assert output == "c\ufffd"
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        await kept.add(ME, [{"deep": deep}], {**made, "id": new_id()})


async def test_old_responses_are_swept(kept: StoredResponses, database_url: str) -> None:
    made = await turn(kept, "old", "x")
    young = await turn(kept, "young", "x")
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(
            "UPDATE aidb.responses SET created_at = now() - interval '31 days' WHERE id = %s",
            (made["id"],),
        )
    assert await kept.sweep(timedelta(days=30)) == 1
    with pytest.raises(NotFound):
        await kept.get(ME, made["id"])
    assert await kept.get(ME, young["id"]) == young
