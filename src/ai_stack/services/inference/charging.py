"""What an inference counts for limits of tokens: reserved by an estimate, settled by the usage.

An answer that was kept, or that another request draws, takes no tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ai_stack.models.inference import GENERATION, Call, InferenceRecord
from ai_stack.models.principals import Principal
from ai_stack.services.limits import Held, Limits, Plan
from ai_stack.services.limits.rules import EMBEDDING, GENERATING

BYTES_A_TOKEN = 4
ASSUMED = 512  # tokens of an answer that says no most

Ended = Callable[[InferenceRecord], None]


@dataclass(slots=True)
class Charge:
    """What was reserved for one inference."""

    limits: Limits
    held: Held
    expected: int

    def settled(self, record: InferenceRecord) -> None:
        """What it came to, by its record."""
        self.limits.settle(self.held, _used(record, self.expected))


async def reserve(limits: Limits, principal: Principal, call: Call) -> Charge | None:
    """Reserve what a call is expected to take, or what is left of it; raises LimitExceeded."""
    plan = limits.plan(principal, GENERATING if call.operation in GENERATION else EMBEDDING)
    if "tokens" not in plan.whats:
        return None
    expected = _of(call)
    held = limits.take_held(plan, {"tokens": expected})
    if held is not None:
        return Charge(limits, held, expected)
    return await reserve_tokens(limits, plan, expected)


async def reserve_tokens(limits: Limits, plan: Plan, expected: int) -> Charge:
    """As `reserve`, where the tokens are known better."""
    held = await limits.take(plan, {"tokens": expected}, partly=True)
    return Charge(limits, held, expected)


def charging(charge: Charge | None, ended: Ended) -> Ended:
    """`ended`, and the settling of what was reserved."""
    return ended if charge is None else partial(_both, charge, ended)


def _both(charge: Charge, ended: Ended, record: InferenceRecord) -> None:
    ended(record)
    charge.settled(record)


def _of(call: Call) -> int:
    prompt = len(call.encoded) // BYTES_A_TOKEN + 1
    if call.operation not in GENERATION:
        return prompt
    most = call.body.get("max_completion_tokens") or call.body.get("max_tokens")
    return prompt + (most if isinstance(most, int) and most > 0 else ASSUMED)


def _used(record: InferenceRecord, expected: int) -> int:
    """As the engine told; else what was expected, of an answer that had begun.

    Who leaves in the middle of a stream has used what was reserved.
    """
    if record.usage is not None:
        return record.usage.prompt + record.usage.completion
    begun = record.outcome == "ok" or record.first_token_ms is not None
    return expected if begun else 0
