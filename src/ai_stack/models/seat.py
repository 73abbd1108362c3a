"""The place of one of several processes that are one gateway, as their parent hands it on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seat:
    """Descriptors of the sockets to listen on and of the pipe to say that one is ready by.

    In `folder` the processes reach each other; `number` counts from 1 and outlasts a process.
    """

    number: int
    listeners: tuple[int, ...]
    ready: int
    folder: Path

    def text(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def read(cls, text: str) -> "Seat":
        found = json.loads(text)
        listeners, folder = tuple(found["listeners"]), Path(found["folder"])
        return cls(found["number"], listeners, found["ready"], folder)
