"""The stack's knowledge: asked with citations, searched, added to, forgotten."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .answers import Answer, ask_files, ask_stack
from .citations import Citation
from .forgetting import Target, chosen, forget
from .passages import best_passages, found_passages
from .texts import new_documents, read_texts

Filter = Annotated[
    dict[str, JsonValue],
    Field(description="Metadata that documents must have, as searches take it."),
]
Files = Annotated[
    list[File], Field(max_length=100, description="Texts to use in place of stored documents.")
]
Mode = Annotated[
    Literal["semantic", "keyword", "hybrid"], Field(description="By meaning, words, or both.")
]
Limit = Annotated[int, Field(ge=1, le=50, description="Documents to draw from.")]
Text = Field(min_length=1, max_length=8192)


class Knowledge(Skill):
    @action
    async def ask(
        self,
        question: Annotated[str, Text],
        files: Files = [],  # noqa: B006 (pydantic copies it)
        limit: Limit = 5,
        mode: Mode = "hybrid",
        filter: Filter = {},  # noqa: B006
        rerank: Annotated[bool, Field(description="Have a reranker order them.")] = False,
    ) -> SkillResult:
        """Answer a question from documents, with citations that were checked."""
        if files:
            texts = await asyncio.to_thread(read_texts, files)
            answer = await ask_files(self.context, question, texts, limit)
        else:
            answer = await ask_stack(self.context, question, _options(limit, mode, filter, rerank))
        return SkillResult(answer.shown(), summary=_told(answer), notes=tuple(answer.notes))

    @action
    async def search(
        self,
        query: Annotated[str, Text],
        files: Files = [],  # noqa: B006
        limit: Limit = 10,
        mode: Mode = "hybrid",
        filter: Filter = {},  # noqa: B006
        rerank: Annotated[bool, Field(description="Have a reranker order them.")] = False,
    ) -> SkillResult:
        """Find the passages that answer a query."""
        if files:
            texts = await asyncio.to_thread(read_texts, files)
            found = await asyncio.to_thread(best_passages, query, texts, limit)
        else:
            options = _options(limit, mode, filter, rerank)
            found = found_passages(await self.context.search(query, **options))
        lines = [f"{len(found)} passages."] + [_line(one) for one in found[:4]]
        return SkillResult({"passages": [one.shown() for one in found]}, summary="\n".join(lines))

    @action
    async def add(
        self,
        text: Annotated[str, Field(max_length=8 << 20, description="What to remember.")] = "",
        files: Annotated[list[File], Field(max_length=100, description="Or files of text.")] = [],  # noqa: B006
        id: Annotated[str, Field(max_length=1024, description="Of the text.")] = "",
        id_prefix: Annotated[str, Field(max_length=500, description="Before files' names.")] = "",
        metadata: Annotated[dict[str, JsonValue], Field(description="Of all that is added.")] = {},  # noqa: B006
        replace: Annotated[bool, Field(description="Whether an id may be taken.")] = False,
        preview: Annotated[bool, Field(description="Store nothing, show what would be.")] = False,
    ) -> SkillResult:
        """Remember a text or files."""
        if bool(text) == bool(files):
            raise SkillFailed("Give either a `text` or `files`.")
        texts = await asyncio.to_thread(read_texts, files) if files else {id: text}
        new = new_documents(texts, id_prefix if files else "", metadata)
        if not preview:
            stored = await self._stored(new, replace)
        else:
            stored = [{"id": one.get("id"), "state": "preview"} for one in new]
        shown: list[JSON] = [
            {"id": str(s["id"]) if s.get("id") else None, "state": str(s.get("state", "pending")),
             "characters": len(str(n["content"]))}
            for s, n in zip(stored, new, strict=True)
        ]  # fmt: skip
        word = "would be added" if preview else "added"
        return SkillResult({"documents": shown}, summary=f"{len(shown)} documents {word}.")

    @action
    async def forget(
        self,
        ids: Annotated[
            list[str], Field(max_length=1000, description="Documents by their ids.")
        ] = [],  # noqa: B006
        prefix: Annotated[str, Field(max_length=1024, description="Or how their ids begin.")] = "",
        filter: Filter = {},  # noqa: B006
        confirm: Annotated[bool, Field(description="Remove them; else only list them.")] = False,
    ) -> SkillResult:
        """Remove documents, after a list of what would go."""
        if sum(map(bool, (ids, prefix, filter))) != 1:
            raise SkillFailed("Give one of `ids`, `prefix` and `filter`.")
        wanted = await chosen(self.context, Target(ids, prefix, filter))
        if not confirm:
            told = f"{len(wanted)} documents would be removed; `confirm` removes them."
            listed: dict[str, JSON] = {"would_forget": [*wanted], "forgotten": []}
            return SkillResult(listed, summary=told)
        gone, missing = await forget(self.context, wanted)
        output: dict[str, JSON] = {"forgotten": [*gone], "missing": [*missing]}
        return SkillResult(output, summary=f"{len(gone)} documents removed.")

    async def _stored(
        self, new: Sequence[dict[str, JSON]], replace: bool
    ) -> Sequence[dict[str, JSON]]:
        if not replace:
            return await self.context.add_documents(new)
        stored = []
        for number, one in enumerate(new):
            await self.context.progress(number, len(new), str(one.get("id", "")))
            stored.append(await self._replaced(one))
        return stored

    async def _replaced(self, one: dict[str, JSON]) -> dict[str, JSON]:
        id, metadata = one.get("id"), one.get("metadata")
        if not isinstance(id, str):
            raise SkillFailed("Only what has an `id` can be replaced.")
        kept = metadata if isinstance(metadata, dict) else {}
        return await self.context.put_document(id, str(one["content"]), kept)


def _options(
    limit: int, mode: str, filter: Mapping[str, JsonValue], rerank: bool
) -> dict[str, JSON]:
    found: dict[str, JSON] = {"limit": limit, "mode": mode, "rerank": rerank}
    return found | ({"filter": dict(filter)} if filter else {})


def _told(answer: Answer) -> str:
    if answer.text is not None:
        return answer.text[:500]
    lines = ["No language model is served: these passages fit best."]
    return "\n".join(lines + [_line(one) for one in answer.citations[:3]])


def _line(one: Citation) -> str:
    return f"[{one.number}] {Path(one.document_id).name}: {' '.join(one.text.split())[:120]}"
