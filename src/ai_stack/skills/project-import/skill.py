"""Project import: a source tree among the stack's documents, kept in step with it."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ai_stack.skill import JSON, Folder, Skill, SkillFailed, SkillResult, Unavailable, action

from .chunks import Chunk, chunks_of
from .stored import Plan, apply, compared, hash_of, id_of, present
from .tree import Tree, read

MAX_SHOWN = 200
NO_STACK = "No stack was reached, so that this is compared with nothing."
Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="The project's name."),
]
Source = Annotated[Folder, Field(description="The project's folder.")]
Patterns = tuple[Annotated[str, Field(max_length=300)], ...]
Only = Annotated[Patterns, Field(max_length=100, description="Patterns of what is taken.")]
Without = Annotated[Patterns, Field(max_length=100, description="Patterns of what is not.")]
DryRun = Annotated[bool, Field(description="Tell what would be done, and do nothing.")]


class ProjectImport(Skill):
    async def _import(
        self,
        folder: Source,
        name: Name,
        only: Only = (),
        without: Without = (),
        dry_run: DryRun = False,
    ) -> SkillResult:
        """Store a source tree for the first time."""
        there, notes = await self._there(name, dry_run)
        if there:
            raise SkillFailed(f"There is a project {name} already: `sync` brings it up to date.")
        result = await self._brought(folder, name, (only, without), there, dry_run)
        return replace(result, notes=(*notes, *result.notes))

    vars()["import"] = action(_import)  # what callers know it by is a keyword of Python
    del _import

    @action
    async def sync(
        self,
        folder: Source,
        name: Name,
        only: Only = (),
        without: Without = (),
        dry_run: DryRun = False,
    ) -> SkillResult:
        """Store what has changed in a tree since, and delete what is gone."""
        there, notes = await self._there(name, dry_run)
        if not there and not notes:
            raise SkillFailed(f"There is no project {name} yet: `import` it first.")
        result = await self._brought(folder, name, (only, without), there, dry_run)
        return replace(result, notes=(*notes, *result.notes))

    @action
    async def forget(self, name: Name, dry_run: DryRun = False) -> SkillResult:
        """Delete all documents of a project."""
        there, notes = await self._there(name, dry_run)
        plan = Plan(deleted=[*there])
        if not dry_run:
            await apply(self.context, name, plan, {})
        told = f"{len(plan.deleted)} documents of {name} {'would go' if dry_run else 'deleted'}."
        return SkillResult(_told(plan, dry_run), told, notes)

    async def _there(self, name: str, dry_run: bool) -> tuple[Mapping[str, str], tuple[str, ...]]:
        """The documents there are; without a stack, a dry run goes on as if there were none."""
        try:
            return await present(self.context, name), ()
        except Unavailable:
            if not dry_run:
                raise
            return {}, (NO_STACK,)

    async def _brought(
        self,
        folder: Path,
        name: str,
        patterns: tuple[Sequence[str], Sequence[str]],
        there: Mapping[str, str],
        dry_run: bool,
    ) -> SkillResult:
        """Make the project's documents those of the tree."""
        tree: Tree = await asyncio.to_thread(read, folder, *patterns)
        if not tree.texts:
            raise SkillFailed("There is nothing to import: no text file is wanted there.")
        chunks = await asyncio.to_thread(_chunks, name, tree)
        wanted = {id: hash_of(chunk) for id, chunk in chunks.items()}
        plan = compared(wanted, there)
        if not dry_run:
            await apply(self.context, name, plan, chunks)
        kinds = Counter(str(chunk.kind) for chunk in chunks.values())
        languages = Counter(chunk.language for chunk in chunks.values())
        output: dict[str, JSON] = {
            **_told(plan, dry_run),
            "files": len(tree.texts),
            "documents": len(chunks),
            "kinds": dict(kinds),
            "languages": dict(languages.most_common(30)),
        }
        told = f"{len(plan.added)} added, {len(plan.changed)} changed, {len(plan.deleted)} deleted"
        head = f"{name}: {len(chunks)} documents of {len(tree.texts)} files; "
        notes = [f"{count} files left out: {why}." for why, count in tree.left_out.items()]
        return SkillResult(output, f"{head}{told}, {plan.unchanged} as they were.", tuple(notes))


def _chunks(name: str, tree: Tree) -> dict[str, Chunk]:
    """Every chunk of a tree, by its document's id."""
    found = [chunk for path, text in tree.texts.items() for chunk in chunks_of(path, text)]
    return {id_of(name, chunk): chunk for chunk in found}


def _told(plan: Plan, dry_run: bool) -> dict[str, JSON]:
    return {
        "dry_run": dry_run,
        "added": len(plan.added),
        "changed": len(plan.changed),
        "deleted": len(plan.deleted),
        "unchanged": plan.unchanged,
        "ids": [*plan.added, *plan.changed, *plan.deleted][:MAX_SHOWN],
    }
