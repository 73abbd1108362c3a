"""The stack's parts: what they do, and starting, stopping and restarting them."""

from typing import Annotated

from pydantic import Field

from ai_stack.skill import JSON, Skill, SkillResult, action

from .managers import Manager, Part, chosen_manager
from .states import StackState

Which = Annotated[Part, Field(description="One part; `stack` for all of it.")]
Planned = Annotated[bool, Field(description="Do nothing, and give the command that would be run.")]


class AIServiceManagement(Skill):
    @action
    async def status(self) -> SkillResult:
        """Show what each part does."""
        manager = chosen_manager()
        return _shown(manager, await manager.status())

    @action
    async def start(self, part: Which = "stack", plan: Planned = False) -> SkillResult:
        """Start what does not run, and return when it does."""
        manager = chosen_manager()
        if plan:
            return _planned(manager, manager.start_command(part))
        await self.context.progress(0, 1, f"starting {part}")
        return _shown(manager, await manager.start(part), part)

    @action
    async def stop(self, part: Which = "stack", plan: Planned = False) -> SkillResult:
        """Stop the stack, or a part where its manager can."""
        manager = chosen_manager()
        if plan:
            return _planned(manager, manager.stop_command(part))
        await self.context.progress(0, 1, f"stopping {part}")
        return _shown(manager, await manager.stop(part), part)

    @action
    async def restart(self, part: Which = "stack", plan: Planned = False) -> SkillResult:
        """Restart the stack or a part, and return when it is ready again."""
        manager = chosen_manager()
        if plan:
            return _planned(manager, manager.restart_command(part))
        await self.context.progress(0, 2, f"restarting {part}")
        before = await manager.status()
        state = await manager.restart(part)
        found = _shown(manager, state, part)
        was, now = before.process_of(part), state.process_of(part)
        return SkillResult({**found.output, "was": was, "now": now}, found.summary, found.notes)

    @action
    async def logs(
        self,
        part: Which = "stack",
        lines: Annotated[int, Field(ge=1, le=5000, description="The last so many.")] = 100,
        plan: Planned = False,
    ) -> SkillResult:
        """Read the last lines of the logs."""
        manager = chosen_manager()
        command = manager.logs_command(part, lines)
        if plan:
            return _planned(manager, command)
        found = (await manager.logs(command)).splitlines()[-lines:]
        output: dict[str, JSON] = {"manager": manager.name, "part": part, "lines": [*found]}
        return SkillResult(output, summary="\n".join(found[-5:]))


def _shown(manager: Manager, state: StackState, part: Part = "stack") -> SkillResult:
    notes = (state.note,) if state.note else ()
    output: dict[str, JSON] = {"manager": manager.name, **state.shown()}
    return SkillResult(output, summary=state.told(part), notes=notes)


def _planned(manager: Manager, command: tuple[str, ...]) -> SkillResult:
    shown = " ".join(command)
    return SkillResult({"manager": manager.name, "command": shown}, summary=f"Would run: {shown}")
