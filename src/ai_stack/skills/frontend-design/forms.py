"""Fields of forms: each with a label that belongs to it, whatever its kind."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import SkillFailed

from .markup import Markup, slug, tag, together

FieldType = Literal[
    "text", "email", "password", "number", "date", "tel", "url", "textarea", "select", "checkbox"
]
FILLED_BY = {"email": "email", "tel": "tel", "url": "url", "password": "current-password"}


class FormField(BaseModel):
    """Something to fill in."""

    model_config = ConfigDict(extra="forbid")
    label: Annotated[str, Field(min_length=1, max_length=120, description="What it asks for.")]
    type: Annotated[FieldType, Field(description="Of what kind.")] = "text"
    hint: Annotated[str, Field(max_length=300, description="Said below its label.")] = ""
    required: Annotated[bool, Field(description="Whether it must be filled in.")] = False
    options: Annotated[
        list[Annotated[str, Field(max_length=120)]],
        Field(max_length=200, description="Of a select."),
    ] = []


def fields(given: list[FormField], prefix: str) -> Markup:
    """All fields, their ids made of the form's and their label's."""
    return together(
        *(_field(one, f"{prefix}-{slug(one.label)}-{n}") for n, one in enumerate(given))
    )


def _field(one: FormField, id: str) -> Markup:
    hint = tag("p", one.hint, id=f"{id}-hint", class_="hint") if one.hint else None
    control = _control(one, id)
    label = tag("label", one.label, *([" (required)"] if one.required else []), for_=id)
    if one.type == "checkbox":
        return tag("div", tag("div", control, label, class_="check"), hint, class_="field")
    return tag("div", label, hint, control, class_="field")


def _control(one: FormField, id: str) -> Markup:
    described = f"{id}-hint" if one.hint else None
    name = slug(one.label)
    if one.type == "select":
        if not one.options:
            raise SkillFailed(f"The field {one.label!r} is a select and needs options.")
        options = (tag("option", option, value=option) for option in one.options)
        return tag(
            "select",
            *options,
            id=id,
            name=name,
            required=one.required,
            aria_describedby=described,
        )
    if one.type == "textarea":
        return tag(
            "textarea",
            id=id,
            name=name,
            rows=4,
            required=one.required,
            aria_describedby=described,
        )
    return tag(
        "input",
        id=id,
        name=name,
        type=one.type,
        required=one.required,
        autocomplete=FILLED_BY.get(one.type),
        aria_describedby=described,
    )
