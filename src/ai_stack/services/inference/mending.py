"""Tool calls on their way to the client: repaired, and those that cannot be, written anew once.

A call that no repair fits is asked for again, from the same engine, under a grammar that its
schema gives. What was well-formed leaves as the bytes that came.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from ai_stack.errors import AIStackError
from ai_stack.models.inference import Call
from ai_stack.services.inference.held_calls import HeldCalls
from ai_stack.services.inference.repair import Repair, repaired, retried, retry_request

Ask = Callable[[Call], Awaitable[dict[str, Any]]]
MOST_ANEW = 4


@dataclass
class Mending:
    """The calls of one answer; `ask` has the same engine answer another call."""

    call: Call
    ask: Ask
    repaired: int = 0
    failed: int = 0
    faults: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._tools: list[Any] = list(self.call.body["tools"])  # type: ignore[call-overload]
        self._choice = self.call.body.get("tool_choice")
        self._held = HeldCalls(self._tools, self._choice)
        self._anew = 0

    async def whole(self, answer: dict[str, Any], body: bytes) -> bytes:
        """A whole answer: its own bytes, or others where a call was repaired."""
        changed = False
        for choice in answer.get("choices") or ():
            cut = choice.get("finish_reason") == "length"
            repair = repaired(choice.get("message") or {}, self._tools, self._choice, cut=cut)
            repair = await self._mended(repair)
            if repair.changed:
                changed = True
                choice["message"] = repair.message
                choice["finish_reason"] = "tool_calls" if repair.lifted else choice["finish_reason"]
        return orjson.dumps(answer) if changed else body

    async def events(self, events: Iterable[tuple[bytes, dict[str, Any] | None]]) -> bytes:
        """What of a stream's events goes on now; the last one, [DONE], is no chunk."""
        out: list[bytes] = []
        for event, chunk in events:
            if chunk is None:
                out += [*self._held.close(), event + b"\n\n"]
                continue
            out += self._held.feed(chunk, event + b"\n\n")
            for index, repair in list(self._held.waiting.items()):
                out += self._held.settle(index, await self._mended(repair))
        return b"".join(out)

    def told(self) -> dict[str, object] | None:
        """What was done, for the log; None for nothing."""
        for repair in self._held.repairs:
            if not repair.failed:  # the others were counted when they were asked for anew
                self._count(repair)
        self._held.repairs.clear()
        if not (self.repaired or self.failed):
            return None
        return {"repaired": self.repaired, "failed": self.failed, "faults": sorted(self.faults)}

    async def _mended(self, repair: Repair) -> Repair:
        for failure in repair.failed:
            if failure.name is None or self._anew >= MOST_ANEW:
                continue
            self._anew += 1
            request = retry_request(self.call.body, failure)
            try:
                call = Call("chat", request, orjson.dumps(request), salt=self.call.salt)
                answer = await self.ask(call)
                message = answer["choices"][0]["message"]
            except (AIStackError, KeyError, IndexError, TypeError):
                continue
            repair = retried(repair, failure, message, self._tools)
        self._count(repair)
        return repair

    def _count(self, repair: Repair) -> None:
        self.repaired += repair.changed
        self.failed += len(repair.failed)
        self.faults.update(repair.faults)
