"""Ways of cutting documents, tried on a sample that is stored for it and removed again."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from ai_stack.skill import JSON, Context, NotFound, SkillFailed

from .golden import Question
from .rankings import Variant

PREFIX, MARK, OF = "rag-trial", "rag_trial", "rag_trial_of"
WORD = re.compile(r"\S+")
OVERLAP = 0.1
BATCH, AT_ONCE = 100, 16
MAX_PIECES = 20_000
INDEXED_WITHIN_S = 300.0
LOOK_S = 0.2
PER_DOCUMENT = 5


@dataclass(slots=True)
class Trial:
    """A sample under `token`; `added` are the ids that are to be removed."""

    context: Context
    token: str = field(default_factory=lambda: uuid4().hex[:12])
    added: list[str] = field(default_factory=list)

    async def store(self, sample: Mapping[str, str], words: int) -> Variant:
        """Store the sample, cut into pieces of so many words, and give the way to search it."""
        name = f"cut {words} words" if words else "as a whole"
        mark = f"{self.token}-{words}"
        pieces = [
            (id, text) for id, whole in sample.items() for text in (cut(whole, words) or [whole])
        ]
        if len(self.added) + len(pieces) > MAX_PIECES:
            raise SkillFailed(
                f"The sample has more than {MAX_PIECES:,} pieces: take a smaller one."
            )
        for start in range(0, len(pieces), BATCH):
            await self._add(mark, start, pieces[start : start + BATCH])
        await self._indexed(mark)
        options: dict[str, JSON] = {"filter": {MARK: mark}}
        return Variant(name, options, _original, limit=10 * PER_DOCUMENT)

    async def _add(self, mark: str, start: int, pieces: Sequence[tuple[str, str]]) -> None:
        documents: list[dict[str, JSON]] = [
            {"id": f"{PREFIX}-{mark}/{start + n}", "content": text,
             "metadata": {MARK: mark, OF: id}}
            for n, (id, text) in enumerate(pieces)
        ]  # fmt: skip
        self.added += [str(one["id"]) for one in documents]
        await self.context.progress(start, start + len(pieces), "storing the sample")
        await self.context.add_documents(documents)

    async def _indexed(self, mark: str) -> None:
        """Wait until searches find all of it."""
        try:
            async with asyncio.timeout(INDEXED_WITHIN_S):
                while (await self._pending(mark))["items"]:  # noqa: ASYNC110 (the stack tells nobody)
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise SkillFailed("The sample was not indexed in time; is the worker busy?") from None

    async def _pending(self, mark: str) -> Mapping[str, Any]:
        return await self.context.documents(limit=1, state="pending", filter={MARK: mark})

    async def remove(self) -> None:
        for start in range(0, len(self.added), AT_ONCE):
            await self.context.progress(start, len(self.added), "removing the sample")
            await asyncio.gather(*map(self._remove, self.added[start : start + AT_ONCE]))

    async def _remove(self, id: str) -> None:
        with suppress(NotFound):
            await self.context.delete_document(id)


@asynccontextmanager
async def trial(context: Context) -> AsyncIterator[Trial]:
    """A trial that leaves nothing behind, however it ends."""
    made = Trial(context)
    try:
        yield made
    finally:
        await made.remove()


async def sampled(context: Context, questions: Sequence[Question], most: int) -> dict[str, str]:
    """Documents by id: those that the questions need, and others up to so many."""
    wanted = [*dict.fromkeys(id for one in questions for id in sorted(one.relevant))][:most]
    found: dict[str, str] = {}
    for id in wanted:
        try:
            found[id] = str((await context.document(id))["content"])
        except NotFound:
            continue
    if not found:
        raise SkillFailed("None of the documents that the questions need is stored.")
    options: dict[str, JSON] = {"limit": 100}
    while len(found) < most:
        page = await context.documents(**options)
        for item in page["items"]:
            if len(found) < most and not str(item["id"]).startswith(PREFIX):
                found.setdefault(str(item["id"]), str(item["content"]))
        if not page.get("next_cursor"):
            break
        options["cursor"] = page["next_cursor"]
    return found


def cut(text: str, words: int) -> list[str]:
    """Pieces of so many words, a tenth of them shared with the next; the whole for 0 words."""
    return [text] if not words else [*_pieces(text, words)]


def _pieces(text: str, words: int) -> Iterator[str]:
    places = [found.span() for found in WORD.finditer(text)]
    step = max(1, words - int(words * OVERLAP))
    for first in range(0, max(1, len(places) - (words - step)), step):
        kept = places[first : first + words]
        if kept:
            yield text[kept[0][0] : kept[-1][1]]


def _original(result: Mapping[str, Any]) -> str:
    """The document that a piece was cut from."""
    return str(result["document"]["metadata"][OF])
