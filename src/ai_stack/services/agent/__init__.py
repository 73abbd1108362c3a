"""The agent: a goal is worked on in steps by a model that uses tools, as a run.

What it thought, called and was told is the run's events. So a run whose worker was killed goes on
from them, and so does one that waited for a person.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from uuid import UUID

from ai_stack.errors import Conflict, InvalidRequest
from ai_stack.models.agent import AgentRequest, Approval
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.runs import Run
from ai_stack.services.agent.loop import Loop
from ai_stack.services.agent.toolbox import Toolbox
from ai_stack.services.agent.transcript import read_transcript
from ai_stack.services.handlers import RunContext
from ai_stack.services.inference import Inference
from ai_stack.services.runs import Runs

KIND, QUEUE = "agent", "agents"
LONGEST_GOAL, MOST_STEPS, MOST_TOKENS, LONGEST_S = 32_000, 100, 5_000_000, 7200.0


@dataclass(frozen=True, slots=True)
class Working:
    """The handler of an agent's runs, in the worker."""

    inference: Inference
    toolbox: Toolbox

    async def __call__(self, context: RunContext) -> Mapping[str, JSON]:
        """Work on the goal from where the run's events leave off."""
        asked = AgentRequest(**dict(context.input))  # type: ignore[arg-type]
        transcript = await read_transcript(context.database, context.principal, context.run.id)
        loop = Loop(self.inference, self.toolbox, context, asked, transcript)
        return await loop.work()


@dataclass(frozen=True, slots=True)
class Agent:
    """Starts an agent's runs and answers what they ask."""

    runs: Runs
    toolbox: Toolbox

    async def start(self, principal: Principal, request: AgentRequest) -> Run:
        """Begin to work on a goal; InvalidRequest for one out of bounds or a tool there is not."""
        principal.require(Scope.AGENT)
        check(request)
        for name in (*request.tools, *request.allow):
            await self.toolbox.tool(principal, name)
        return await self.runs.start(principal, KIND, asdict(request))

    async def answer(
        self, principal: Principal, run_id: UUID, approval: Approval, call: str | None = None
    ) -> Run:
        """Approve or refuse what a run waits for, and let it go on.

        Conflict if it waits for nothing, or by now for an answer to another call than `call`.
        """
        principal.require(Scope.AGENT)
        run = await self.runs.get(principal, run_id)
        if run.kind != KIND:
            raise Conflict("This run is no agent's.")
        transcript = await read_transcript(self.runs.database, principal, run_id)
        if transcript.asks is None:
            raise Conflict("This run waits for no answer.")
        if call not in (None, transcript.asks):
            raise Conflict("This run asks about another call by now; look at its events.")
        answered: dict[str, JSON] = {"answer": transcript.asks, **asdict(approval)}
        return await self.runs.resume(principal, run_id, answered)


def check(request: AgentRequest) -> None:
    """InvalidRequest for a request that is out of bounds."""
    bounds = {
        "goal": len(request.goal.strip()) > 0 and len(request.goal) <= LONGEST_GOAL,
        "max_steps": 1 <= request.max_steps <= MOST_STEPS,
        "max_tokens": 1 <= request.max_tokens <= MOST_TOKENS,
        "time_s": 1 <= request.time_s <= LONGEST_S,
    }
    for name, kept in bounds.items():
        if not kept:
            raise InvalidRequest(f"{name} is out of bounds.", fields={name: "is out of bounds"})
