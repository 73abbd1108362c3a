"""Tells an absent disk from deletions: where the watched folder's files are, and were before.

A folder that is not mounted looks like an empty one. Its inode tells: that of the folder
itself, and of each file system that is mounted below it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ai_stack.database import Database
from ai_stack.database import places as rows
from ai_stack.errors import Conflict
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal
from ai_stack.services.handlers import RunContext

HELD = (
    "{count} documents are kept although their files are gone, since {place} is another folder"
    " than it was, as when a disk is not mounted. Bring the files back, or have the documents"
    " deleted: ai-stack runs retry {run}"
)
BY_ITSELF = "The folder is looked at again by itself; this run is not retried."


@dataclass(frozen=True, slots=True)
class Places:
    """The places that are known, in the database: a watcher may die and begin anew."""

    database: Database
    principal: Principal

    async def known(self) -> dict[str, int]:
        """Where the files were when they were followed last."""
        async with self.database.transaction(self.principal.project_id) as tx:
            return await rows.known(tx)

    async def keep(self, now: Mapping[str, int]) -> None:
        """What is there now is what counts."""
        async with self.database.transaction(self.principal.project_id) as tx:
            await rows.replace(tx, now)


async def accept(context: RunContext) -> Mapping[str, JSON]:
    """Retry a run that held deletions: what it found counts from now on, and they are made."""
    held = context.input.get("held")
    if not isinstance(held, dict):
        raise Conflict(BY_ITSELF)
    places = Places(context.database, context.principal)
    await places.keep({path: int(str(inode)) for path, inode in held.items()})
    return {"accepted": True}


def changed(known: Mapping[str, int], now: Mapping[str, int], *, is_empty: bool) -> list[str]:
    """The places that are not what they were, as prefixes of paths.

    Where none is known yet, an empty folder counts as another one.
    """
    if not known:
        return [""] if is_empty else []
    return [path for path, inode in known.items() if now.get(path) != inode]


def is_below(path: str, places: Collection[str]) -> bool:
    """Whether a path is in one of these places."""
    return any(path.startswith(place) for place in places)
