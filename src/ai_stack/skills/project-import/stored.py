"""A project's documents: which there are, which there should be, and what leads from one to the
other."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ai_stack.skill import JSON, Context, SkillFailed

from .chunks import Chunk

PAGE, AT_ONCE, MAX_ID, MAX_DOCUMENTS = 200, 8, 1_000, 500_000
Hashes: TypeAlias = Mapping[str, str]


@dataclass(slots=True)
class Plan:
    """Ids, by what is to happen with them."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    unchanged: int = 0


def prefix_of(name: str) -> str:
    """What the ids of a project begin with."""
    return f"project:{name}/"


def id_of(name: str, chunk: Chunk) -> str:
    """A chunk's id; one that would be too long ends with its hash."""
    full = prefix_of(name) + chunk.path + (f"#{chunk.symbol}" if chunk.symbol else "")
    if len(full) <= MAX_ID:
        return full
    return f"{full[: MAX_ID - 20]}…{hashlib.sha256(full.encode()).hexdigest()[:16]}"


def metadata_of(name: str, chunk: Chunk) -> dict[str, JSON]:
    """What filters and readers want to know of a chunk."""
    return {
        "project": name,
        "path": chunk.path,
        "language": chunk.language,
        "symbol": chunk.symbol,
        "kind": chunk.kind,
        "start_line": chunk.start_line,
        "end_line": chunk.end_line,
        "title": f"{chunk.path} {chunk.symbol}".strip(),
        "hash": hash_of(chunk),
    }


def hash_of(chunk: Chunk) -> str:
    """Changes with the text, and with where it stands."""
    place = f"{chunk.kind}\0{chunk.start_line}\0{chunk.end_line}\0"
    return hashlib.sha256((place + chunk.text).encode()).hexdigest()[:32]


async def present(context: Context, name: str) -> dict[str, str]:
    """The hashes of the project's documents, by id."""
    found: dict[str, str] = {}
    cursor: str | None = None
    while True:
        options: dict[str, JSON] = {"filter": {"project": name}, "limit": PAGE}
        if cursor:
            options["cursor"] = cursor
        page = await context.documents(**options)
        for item in page["items"]:
            if str(item["id"]).startswith(prefix_of(name)):
                found[str(item["id"])] = str(item["metadata"].get("hash", ""))
        cursor = page.get("next_cursor")
        if cursor is None:
            return found
        if len(found) > MAX_DOCUMENTS:
            raise SkillFailed(f"The project has more than {MAX_DOCUMENTS:,} documents.")


def compared(wanted: Hashes, there: Hashes) -> Plan:
    """What is to be done so that what is there is what is wanted."""
    plan = Plan()
    for id, hash in wanted.items():
        if id not in there:
            plan.added.append(id)
        elif there[id] != hash:
            plan.changed.append(id)
        else:
            plan.unchanged += 1
    plan.deleted = [id for id in there if id not in wanted]
    return plan


async def apply(context: Context, name: str, plan: Plan, chunks: Mapping[str, Chunk]) -> None:
    """Store and delete; each document stands for itself, so that a next run can go on."""
    total = len(plan.added) + len(plan.changed) + len(plan.deleted)
    done = 0

    async def put(id: str) -> None:
        chunk = chunks[id]
        await context.put_document(id, chunk.text, metadata_of(name, chunk))

    for ids, work in (
        ([*plan.added, *plan.changed], put),
        (plan.deleted, context.delete_document),
    ):
        for group in _groups(ids):
            ends = await asyncio.gather(*map(work, group), return_exceptions=True)
            for end in ends:
                if isinstance(end, BaseException):
                    raise end
            done += len(group)
            await context.progress(done, total, group[-1][:200])


def _groups(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))
