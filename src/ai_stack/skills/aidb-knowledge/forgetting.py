"""Which documents are to be forgotten, and their removal."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_stack.skill import JSON, Context, NotFound, SkillFailed

MOST = 20_000
PAGE, AT_ONCE = 500, 16


@dataclass(frozen=True, slots=True)
class Target:
    """Documents by one of these."""

    ids: Sequence[str]
    prefix: str
    filter: Mapping[str, JSON]


async def chosen(context: Context, target: Target) -> list[str]:
    """The ids that are meant; SkillFailed for more than may go at once."""
    if target.ids:
        return [*dict.fromkeys(target.ids)]
    found: list[str] = []
    options: dict[str, JSON] = {"limit": PAGE}
    if target.filter:
        options["filter"] = dict(target.filter)
    while True:
        page = await context.documents(**options)
        ids = [str(item["id"]) for item in page["items"]]
        found += [id for id in ids if id.startswith(target.prefix)]
        if len(found) > MOST:
            raise SkillFailed(f"More than {MOST:,} documents are meant; narrow it down.")
        if not page.get("next_cursor"):
            return found
        options["cursor"] = page["next_cursor"]


async def forget(context: Context, ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove them; the ids that went, and those that were not there."""

    async def went(id: str) -> bool:
        try:
            await context.delete_document(id)
        except NotFound:
            return False
        return True

    gone: list[str] = []
    missing: list[str] = []
    for start in range(0, len(ids), AT_ONCE):
        await context.progress(start, len(ids), ids[start])
        some = ids[start : start + AT_ONCE]
        for id, is_gone in zip(some, await asyncio.gather(*map(went, some)), strict=True):
            (gone if is_gone else missing).append(id)
    return gone, missing
