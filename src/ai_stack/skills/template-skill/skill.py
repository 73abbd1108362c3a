"""The smallest skill: one action, one argument that it needs and one that it does not."""

from typing import Annotated

from pydantic import Field

from ai_stack.skill import Skill, SkillResult, action


class Template(Skill):
    @action
    async def echo(
        self,
        text: Annotated[str, Field(max_length=100_000, description="What is given back.")],
        file: Annotated[str, Field(description="Name of a file that gets it too.")] = "",
    ) -> SkillResult:
        """Give a text back."""
        if file:
            self.context.artifact(file).write_text(text)
        return SkillResult({"text": text}, summary=text)
