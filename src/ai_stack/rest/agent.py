"""The agent over REST: a goal becomes a run; what it asks is answered."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.models.agent import AgentRequest, Approval
from ai_stack.models.answers import run_json
from ai_stack.rest.answers import respond
from ai_stack.rest.requests import AgentRunner, JsonRoute, UseStack
from ai_stack.rest.runs import events_response

router = APIRouter(prefix="/agent", tags=["agent"], route_class=JsonRoute)


class GoalBody(BaseModel):
    """A goal, the tools that may be used for it, and the bounds of the work."""

    model_config = ConfigDict(extra="forbid")

    goal: str = Field(description="What is to be reached.")
    model: str | None = Field(None, description="The model; by default the first that is served.")
    tools: list[str] = Field(
        default_factory=list, description="All tools that it may use; none: it looks for them."
    )
    allow: list[str] = Field(
        default_factory=list, description="Tools that need no approval in this run."
    )
    max_steps: int = Field(16, description="Answers of the model, at most 100.")
    max_tokens: int = Field(200_000, description="Tokens of all steps together.")
    time_s: float = Field(900.0, description="Seconds of work, waiting for answers aside.")
    stream: bool = Field(False, description="Answer with the run's events as they come.")

    def request(self) -> AgentRequest:
        given: dict[str, Any] = self.model_dump(exclude={"stream"})
        return AgentRequest(**given)


class AnswerBody(BaseModel):
    """Whether the call that a run asks about may be done."""

    model_config = ConfigDict(extra="forbid")

    approve: bool
    call: str | None = Field(None, description="Id of the call that was asked about.")
    note: str = Field("", max_length=4000, description="Told to the model.")


@router.post("/run", status_code=202)
async def run_agent(stack: UseStack, caller: AgentRunner, body: GoalBody) -> Response:
    """Have a model work on a goal with tools, step by step, as a run that can be followed."""
    run = await stack.agent.start(caller, body.request())
    if body.stream:
        return events_response(stack.runs.follow(caller, run.id))
    return respond(run_json(run), 202, {"Location": f"/runs/{run.id}"})


@router.post("/runs/{id}/answer", status_code=202)
async def answer_agent(
    stack: UseStack, caller: AgentRunner, id: UUID, body: AnswerBody
) -> Response:
    """Approve or refuse the call that a run waits for; it goes on either way."""
    run = await stack.agent.answer(caller, id, Approval(body.approve, body.note), body.call)
    return respond(run_json(run), 202, {"Location": f"/runs/{run.id}"})
