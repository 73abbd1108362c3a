"""Forms: their fields, and values put into them."""

import io
from collections.abc import Mapping
from typing import TypeAlias

from pypdf import PdfReader, PdfWriter
from pypdf.generic import DictionaryObject, NameObject

from ai_stack.skill import JSON, SkillFailed

from .document import FAULTS, flattened, reader_of, written

Value: TypeAlias = bool | str
KINDS = {"/Tx": "text", "/Ch": "choice", "/Sig": "signature"}
RADIO, PUSH, READ_ONLY, MULTILINE = 1 << 15, 1 << 16, 1, 1 << 12


def fields_of(data: bytes) -> dict[str, dict[str, JSON]]:
    """The fields by name: kind, value, choices, whether they may be changed."""
    try:
        fields = reader_of(data).get_fields() or {}
        return {name: _told(field) for name, field in fields.items() if "/FT" in field}
    except FAULTS:
        raise SkillFailed("The form of this PDF is damaged.") from None


def filled(data: bytes, values: Mapping[str, Value], *, flatten: bool) -> bytes:
    """The form with values; SkillFailed for a name or a choice that is not there."""
    known = fields_of(data)
    if not known:
        raise SkillFailed("This PDF has no form fields.")
    given = {name: _checked(name, value, known) for name, value in values.items()}
    try:
        writer = PdfWriter(clone_from=reader_of(data))
        for page in writer.pages:
            if "/Annots" in page:
                writer.update_page_form_field_values(page, given, auto_regenerate=False)
    except FAULTS:
        raise SkillFailed("The form of this PDF is damaged.") from None
    result = written(writer)
    _check_taken(result, given)
    return _flat(result) if flatten else result


def _told(field: DictionaryObject) -> dict[str, JSON]:
    flags = int(field.get("/Ff", 0) or 0)
    kind = KINDS.get(str(field["/FT"]), "radio" if flags & RADIO else "box")
    kind = "button" if kind not in KINDS.values() and flags & PUSH else kind
    value = field.get("/V", "")
    told: dict[str, JSON] = {"kind": kind, "read_only": bool(flags & READ_ONLY)}
    if kind == "choice":
        options = field.get("/Opt", [])
        told["choices"] = [str(o[0] if isinstance(o, list) else o) for o in options]
    elif kind in ("radio", "box"):
        states = [str(s) for s in field.get("/_States_", []) if s != "/Off"]
        told["choices"] = [state.removeprefix("/") for state in states]
    if kind == "box":
        told["value"] = str(value or "/Off") != "/Off"
    else:
        told["value"] = str(value or "").removeprefix("/") if kind == "radio" else str(value or "")
    return told


def _checked(name: str, value: Value, known: Mapping[str, Mapping[str, JSON]]) -> str:
    """The value as the form stores it."""
    if name not in known:
        told = ", ".join([*known][:30])
        raise SkillFailed(f"The form has no field {name[:80]!r}; it has {told}.")
    field = known[name]
    kind, listed = field["kind"], field.get("choices", ())
    choices = [str(c) for c in listed] if isinstance(listed, list) else []
    if kind in ("button", "signature") or field["read_only"]:
        raise SkillFailed(f"The field {name[:80]!r} cannot be filled in.")
    if kind == "box":
        on = value is True or value in choices
        return f"/{choices[0] if choices else 'Yes'}" if on else "/Off"
    if kind in ("choice", "radio") and choices and value not in choices:
        raise SkillFailed(f"{name[:80]!r} takes one of {', '.join(choices[:30])}.")
    return f"/{value}" if kind == "radio" else str(value)


def _check_taken(data: bytes, given: Mapping[str, str]) -> None:
    fields = PdfReader(io.BytesIO(data)).get_fields() or {}
    lost = [n for n, v in given.items() if str(fields[n].get("/V", "")) != NameObject(v)]
    if lost:
        raise SkillFailed(f"The form did not take values for {', '.join(lost[:20])}.")


def _flat(data: bytes) -> bytes:
    """The values drawn on the pages; there is no form any more."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(flattened(data))))
    writer.root_object.pop(NameObject("/AcroForm"), None)
    return written(writer)
