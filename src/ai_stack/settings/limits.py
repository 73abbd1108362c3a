"""Settings of limits."""

from typing import Literal, TypeAlias

from pydantic import Field

from ai_stack.settings.part import Part

Policy: TypeAlias = Literal["local", "refuse", "allow"]


class Limits(Part):
    """What becomes of limits while they cannot be counted."""

    limits_without_redis: Policy = Field(
        "local",
        description="Limits by the minute and hour while Redis does not answer: `local`, each "
        "gateway keeps them by itself; `refuse`, nobody who has some gets in; `allow`, all do.",
    )
