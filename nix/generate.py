"""Writes nix/settings.json: what the modules' options are made of, out of the settings.

`python nix/generate.py` writes it anew; tests/unit/test_nix.py fails while it is stale.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ai_stack.settings import Settings, variable_of

FILE = Path(__file__).parent / "settings.json"
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "pattern", "enum")


def main() -> None:
    FILE.write_text(text())


def text() -> str:
    """The file as it should be."""
    return json.dumps(described(), indent=1, ensure_ascii=False) + "\n"


def described() -> dict[str, dict[str, Any]]:
    """Each setting: its variable, type, bounds and default; those without a default get null."""
    schemas = Settings.model_json_schema(by_alias=False)["properties"]
    fields = Settings.model_fields
    return {name: _described(name, field, schemas[name]) for name, field in fields.items()}


def _described(name: str, field: FieldInfo, schema: dict[str, Any]) -> dict[str, Any]:
    default = _plain(field.default)
    kinds = schema.get("anyOf", [schema])
    kind = next(k for k in kinds if k.get("type") != "null")
    bounds = {bound: _posix(kind[bound]) for bound in BOUNDS if bound in kind}
    return {
        "variable": variable_of(name, field),
        "type": "path" if kind.get("format") == "path" else kind["type"],
        **bounds,
        "nullable": len(kinds) > 1 or default is None,
        "default": default,
        "secret": kind.get("format") == "password" and not _is_address(name, default),
        "description": field.description,
    }


def _plain(default: object) -> object:
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    return None if default is PydanticUndefined else default


def _posix(bound: object) -> object:
    """A bound as Nix takes it, whose patterns know no \\d and match the whole text anyhow."""
    if not isinstance(bound, str):
        return bound
    return bound.removeprefix("^").removesuffix("$").replace("\\d", "[0-9]")


def _is_address(name: str, default: object) -> bool:
    """Whether a secret setting is a URL, which is a secret only when a password is in it."""
    return name.endswith("_url") or default is not None


if __name__ == "__main__":
    main()
