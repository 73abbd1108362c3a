"""What a backup remembers of searches, so that a restored database can be asked the same."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """A passage, and the ten that are nearest to it among those of a model, the nearest first."""

    model: int
    chunk: str
    nearest: tuple[str, ...]
