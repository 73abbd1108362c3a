"""The bounded queue between the child's event loop and the threads that compute."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_stack.embedders.batches import choose
from ai_stack.errors import TooBusy


class Request:
    """One call: a row for each text, and the future that they fulfil. Lives on the event loop."""

    def __init__(self, texts: int, dimensions: int) -> None:
        self.rows = np.empty((texts, dimensions), np.float32)
        self.done: asyncio.Future[npt.NDArray[np.float32]] = (
            asyncio.get_running_loop().create_future()
        )
        self._missing = texts

    def fulfil(self, index: int, row: npt.NDArray[np.float32]) -> None:
        self.rows[index] = row
        self._missing -= 1
        if not self._missing and not self.done.done():
            self.done.set_result(self.rows)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One text of a request, as token ids."""

    request: Request
    index: int
    model: str
    ids: Sequence[int]

    @property
    def length(self) -> int:
        return len(self.ids)


class Backlog:
    """Jobs in order of arrival, at most `tokens` of them unless it was empty."""

    def __init__(self, tokens: int, budget: int) -> None:
        self.limit, self._budget = tokens, budget
        self.tokens = 0
        self._jobs: list[Job] = []
        self._changed = threading.Condition()

    def put(self, jobs: Sequence[Job]) -> None:
        """Raises TooBusy, and takes none, when they do not fit."""
        tokens = sum(job.length for job in jobs)
        with self._changed:
            if self.tokens + tokens > self.limit:
                self._drop_abandoned()
                if self._jobs and self.tokens + tokens > self.limit:
                    raise TooBusy
            self._jobs.extend(jobs)
            self.tokens += tokens
            self._changed.notify(len(jobs))

    def take(self) -> list[Job]:
        """Wait for the next batch; jobs whose caller has left are dropped."""
        with self._changed:
            while True:
                self._drop_abandoned()
                if self._jobs:
                    break
                self._changed.wait()
            batch = choose(self._jobs, self._budget)
            chosen = set(batch)
            self._keep(lambda job: job not in chosen)
            return batch

    def _drop_abandoned(self) -> None:
        self._keep(lambda job: not job.request.done.done())

    def _keep(self, wanted: Callable[[Job], bool]) -> None:
        self._jobs = [job for job in self._jobs if wanted(job)]
        self.tokens = sum(job.length for job in self._jobs)
