"""Where the files of an import are: what was uploaded, or a folder of this machine."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ai_stack.database import Database, Transaction, run_files
from ai_stack.database.run_files import WaitingFile
from ai_stack.errors import TooLarge

MAX_LINE = 192 << 20


class FileSource(Protocol):
    """Gives the bytes of a run's files."""

    async def read(self, file: WaitingFile) -> bytes | None:
        """All bytes of a file; None when it is there no more."""

    def lines(self, file: WaitingFile) -> AsyncGenerator[bytes, None] | None:
        """The lines of a file that may be an export; TooLarge for one over MAX_LINE."""


@dataclass(frozen=True, slots=True)
class UploadedFiles:
    """Files in the database, in parts, dropped as soon as each is done."""

    database: Database
    project_id: UUID
    run_id: UUID

    async def read(self, file: WaitingFile) -> bytes | None:
        async with self._transaction() as tx:
            return await run_files.whole(tx, self.run_id, file.number)

    async def lines(self, file: WaitingFile) -> AsyncGenerator[bytes, None]:
        rest, number = bytearray(), 0
        while (part := await self._part(file, number)) is not None:
            number += 1
            *whole, last = part.split(b"\n")
            for line in whole:
                yield bytes(rest + line)
                rest.clear()
            rest += last
            if len(rest) > MAX_LINE:
                raise TooLarge("A line of this file is too long.")
        yield bytes(rest)

    async def _part(self, file: WaitingFile, number: int) -> bytes | None:
        async with self._transaction() as tx:
            return await run_files.part(tx, self.run_id, file.number, number)

    def _transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self.database.transaction(self.project_id)
