"""What an agent is asked, and what it may do without asking."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """A goal, and the bounds of the work on it.

    `tools` are all that it may use; with none named it looks for fitting ones itself. Those in
    `allow` need no approval. `max_tokens` counts prompts and answers of all steps together.
    """

    goal: str
    model: str | None = None
    tools: Sequence[str] = ()
    allow: Sequence[str] = ()
    max_steps: int = 16
    max_tokens: int = 200_000
    time_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's answer to what an agent asked; `note` reaches the model."""

    approved: bool
    note: str = ""
