"""Restoring: the lines of an export become the documents that they were."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from ai_stack.database.imports import Stored
from ai_stack.database.run_files import Result
from ai_stack.errors import AIStackError
from ai_stack.models.documents import Metadata, NewDocument
from ai_stack.services.exports import from_line
from ai_stack.services.storable import check

BATCH, BATCH_BYTES = 256, 4 << 20


@dataclass
class Restoration:
    """One file of lines; `metadata` and `prefix` are added to what they say."""

    metadata: Metadata
    prefix: str
    _wrong: int = 0
    _first_wrong: str = ""
    _changes: set[str] = field(default_factory=set)

    async def batches(
        self, lines: AsyncGenerator[bytes, None]
    ) -> AsyncIterator[Sequence[NewDocument]]:
        """Documents of different ids in their order; lines that are none are counted."""
        batch: dict[str, NewDocument] = {}
        room, number = BATCH_BYTES, 0
        async with aclosing(lines):
            async for line in lines:
                number += 1
                document = self._document(line, number)
                if document is None or document.key is None:
                    continue
                if document.key in batch or len(batch) == BATCH or room < 0:
                    yield list(batch.values())
                    batch, room = {}, BATCH_BYTES
                batch[document.key] = document
                room -= len(line)
        if batch:
            yield list(batch.values())

    def _document(self, line: bytes, number: int) -> NewDocument | None:
        if not line.strip():
            return None
        try:
            found = from_line(line)
            metadata = {**found.metadata, **self.metadata}
            document = replace(found, key=self.prefix + (found.key or ""), metadata=metadata)
            check([document])
        except AIStackError as error:
            self._wrong += 1
            self._first_wrong = self._first_wrong or f"line {number}: {error.message}"
            return None
        return document

    def count(self, stored: Sequence[Stored]) -> None:
        self._changes |= {one.change for one in stored}

    def result(self, number: int) -> Result:
        """What became of the file: failed when one of its lines is wrong, the others aside."""
        if self._wrong:
            return Result(
                number, "failed", f"{self._wrong} lines are wrong, first {self._first_wrong}"
            )
        if "added" in self._changes:
            return Result(number, "added")
        return Result(number, "updated" if "updated" in self._changes else "unchanged")
