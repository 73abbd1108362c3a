"""Templates: a Word file with Jinja's marks, rendered in a sandbox."""

import io

from docxtpl import DocxTemplate
from jinja2 import ChainableUndefined, StrictUndefined
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from pydantic import JsonValue

from ai_stack.skill import SkillFailed

from .package import FAULTS, WORD
from .writing import CONTROL

MAX_OUTPUT_BYTES = 128 << 20
UNSAFE = "The template does what templates may not: it reaches beyond its values."


def names(data: bytes) -> list[str]:
    """The names that a template wants."""
    try:
        found = DocxTemplate(io.BytesIO(data)).get_undeclared_template_variables(_sandbox(True))
    except TemplateError as error:
        raise _refusal(error) from None
    except FAULTS:
        raise SkillFailed(WORD.damaged) from None
    return sorted(found)


def filled(data: bytes, values: dict[str, JsonValue], *, blank: bool) -> bytes:
    """The template with its values; SkillFailed for a name that is missing, unless `blank`."""
    template, out = DocxTemplate(io.BytesIO(data)), io.BytesIO()
    try:
        template.render(_plain(values), jinja_env=_sandbox(blank), autoescape=True)
        template.save(out)
    except TemplateError as error:
        raise _refusal(error) from None
    except (TypeError, *FAULTS, ArithmeticError, MemoryError):
        raise SkillFailed("The template cannot do this with these values.") from None
    if out.tell() > MAX_OUTPUT_BYTES:
        raise SkillFailed(f"The filled document is larger than {MAX_OUTPUT_BYTES >> 20} MiB.")
    return out.getvalue()


def _sandbox(blank: bool) -> SandboxedEnvironment:
    undefined = ChainableUndefined if blank else StrictUndefined
    return ImmutableSandboxedEnvironment(autoescape=True, undefined=undefined)


def _plain(value: JsonValue) -> JsonValue:
    """Without signs that XML cannot hold."""
    if isinstance(value, str):
        return value.translate(CONTROL)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _refusal(error: TemplateError) -> SkillFailed:
    told = str(error.message or "")
    if "unsafe" in told or "Range too big" in told:
        return SkillFailed(UNSAFE)
    return SkillFailed(f"The template has a fault: {told.rstrip('.')[:300]}.")
