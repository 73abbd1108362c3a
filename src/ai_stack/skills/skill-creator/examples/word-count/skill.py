"""Counts words."""

from typing import Annotated

from pydantic import Field

from ai_stack.skill import Skill, SkillResult, action


class WordCount(Skill):
    @action
    async def count(
        self, text: Annotated[str, Field(description="What is counted.")]
    ) -> SkillResult:
        """Count the words of a text."""
        words = len(text.split())
        return SkillResult({"words": words}, summary=f"{words} words.")
