"""What the parts of the settings are made of."""

from pydantic import AliasChoices, BaseModel, ConfigDict


class Part(BaseModel):
    """Some of the settings; the variable is AI_STACK_<FIELD> where none is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def named(variable: str) -> AliasChoices:
    """A field that is read from one of the specification's own variables."""
    return AliasChoices(variable)


def number(value: object) -> object:
    """Digits as a number, since a Literal of numbers does not read them from a variable."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value
