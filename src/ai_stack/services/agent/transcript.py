"""What an agent's run has come to, read from its events.

A step is one of `{"message", "tokens"}` (the model's), `{"begin"}` (a call whose effects begin),
`{"result", "tool", "text", "found"?}` (what came of it) and `{"answer", "approved", "note"}` (a
person's). The keys hold the id of the call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from ai_stack.database import Database
from ai_stack.database import runs as rows
from ai_stack.models.agent import Approval
from ai_stack.models.principals import Principal

PAGE = 500
Message: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Transcript:
    """The messages so far, in the form of chat; `found` are tools that it has looked for.

    `begun` are calls that may have had effects, `asks` is the call that a person is asked about.
    """

    messages: list[Message] = field(default_factory=list)
    steps: int = 0
    tokens: int = 0
    found: list[str] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    answers: dict[str, Approval] = field(default_factory=dict)
    asks: str | None = None

    def take(self, step: Mapping[str, Any]) -> None:
        """One step more."""
        if "message" in step:
            self.messages.append(dict(step["message"]))
            self.steps += 1
            self.tokens += int(step.get("tokens", 0))
        elif "begin" in step:
            self.begun.add(step["begin"])
        elif "answer" in step:
            self.asks = None
            approval = Approval(bool(step["approved"]), str(step.get("note", "")))
            self.answers[step["answer"]] = approval
            self.begun.discard(step["answer"])
        elif "result" in step:
            self._told(step)

    def _told(self, step: Mapping[str, Any]) -> None:
        self.results[step["result"]] = step["text"]
        self.found += [name for name in step.get("found", ()) if name not in self.found]
        told = {"role": "tool", "tool_call_id": step["result"], "content": step["text"]}
        self.messages.append(told)

    def open_calls(self) -> list[Message]:
        """The calls of the model's last message that nothing has come of yet."""
        last = next((m for m in reversed(self.messages) if m["role"] == "assistant"), {})
        calls = last.get("tool_calls") or []
        return [dict(call) for call in calls if call["id"] not in self.results]


async def read_transcript(database: Database, principal: Principal, run_id: UUID) -> Transcript:
    """The transcript of a run, from its first event to its last."""
    found, after = Transcript(), 0
    while True:
        async with database.transaction(principal.project_id) as tx:
            events = await rows.events(tx, run_id, after, PAGE)
        for event in events:
            after = event.number
            if event.kind == "step":
                found.take(event.data)
            elif event.kind == "ask":
                found.asks = str(event.data["call"])
        if len(events) < PAGE:
            return found
