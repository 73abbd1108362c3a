"""Where the data of a stack is, and the files beside its database: what goes into a backup."""

import os
import re
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from ai_stack.errors import StackError
from ai_stack.services.backup import CONFIG, IMPORTS, SECRETS, SKILLS
from ai_stack.settings import Settings, variable_of
from ai_stack.settings.storage import Storage
from ai_stack.supervisor import folder, parts, scratch

ENV, OPTIMIZER = ".env", "ai-optimizer.json"
PLACES = ("config_dir", "data_dir", "runtime_dir", "secrets_dir", "backup_dir", "embedder_url")


@dataclass(frozen=True, slots=True)
class Servers:
    """URLs of the database as its owner and as the gateway, and of the Redis that keeps."""

    owner: str
    gateway: str
    kept: str


@asynccontextmanager
async def servers(settings: Settings) -> AsyncIterator[Servers]:
    """The servers of these settings; those of a stack that does not run are started meanwhile."""
    ours = settings.database is None or settings.redis_kept is None
    if not ours or folder.holder(settings.data_dir) is not None:
        yield servers_of(settings)
        return
    if not (settings.data_dir / "layout.json").exists():
        raise StackError(f"There is no stack at {settings.data_dir}: nothing to back up.")
    with folder.lock(settings.data_dir):
        account = scratch.account_of(settings)
        folder.fill(settings.data_dir, account)  # an older version knew fewer folders
        async with scratch.servers(settings, account) as apart:
            yield servers_of(apart)


def servers_of(settings: Settings) -> Servers:
    found = parts.addresses(settings)
    admin = settings.database_admin_url
    gateway = settings.database or found["AI_STACK_DATABASE_URL"]
    owner = found.get("AI_STACK_DATABASE_ADMIN_URL") or gateway
    if admin is not None and settings.database is not None:
        owner = admin.get_secret_value()
    kept = settings.redis_kept or found["AI_STACK_REDIS_KEPT_URL"]
    return Servers(owner, gateway, kept)


def files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """The files that go as they are, by their names in the bundle; secrets are not among them."""
    optimizer = settings.config_dir / OPTIMIZER
    if os.access(optimizer, os.F_OK):
        yield f"{CONFIG}/{OPTIMIZER}", optimizer
    for number, place in enumerate(settings.folders_of_skills):
        yield from _tree(f"{SKILLS}/{number}", place)
    yield from _tree(IMPORTS, settings.data_dir / "imports")


def secrets(settings: Settings) -> Iterator[tuple[str, Path]]:
    for name, path in _tree(SECRETS, settings.secrets):
        if not path.name.startswith("."):
            yield name, path


def environment(settings: Settings, *, secrets: bool) -> str | None:
    """The file of settings, without what is secret in it unless that is wanted.

    PermissionError where this user may not read it.
    """
    file = settings.config_dir / ENV
    try:
        text = file.read_text() if file.is_file() else None
    except PermissionError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"The file of settings {file} cannot be read: {error}.") from None
    return text if text is None or secrets else _lines(text, _harmless())


def moved(text: str) -> str:
    """A file of settings for another place: what names servers and folders is left out."""
    return _lines(text, {variable_of(*field) for field in Settings.model_fields.items()} - _bound())


def _harmless() -> set[str]:
    fields = Settings.model_fields.items()
    return {variable_of(name, field) for name, field in fields if SecretStr not in _types(field)}


def _types(field: object) -> tuple[object, ...]:
    annotation = getattr(field, "annotation", None)
    return (annotation, *getattr(annotation, "__args__", ()))


def _bound() -> set[str]:
    fields = Settings.model_fields
    return {variable_of(name, fields[name]) for name in (*Storage.model_fields, *PLACES)}


def _lines(text: str, wanted: set[str]) -> str:
    """The lines that set wanted variables: comments may hold anything, and are left out too."""
    values = dotenv_values(stream=StringIO(text))
    return "".join(f"{name}={_quoted(v)}\n" for name, v in values.items() if name in wanted and v)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return value if re.fullmatch(r"[\w./:@,+-]*", value) else f"'{escaped}'"


def _tree(prefix: str, top: Path) -> Iterator[tuple[str, Path]]:
    """Regular files under a folder, in the order of their names; links are not followed."""
    try:
        found = sorted(top.iterdir()) if top.is_dir() else []
    except PermissionError:
        yield prefix, top  # who opens it learns that it cannot be read
        return
    for path in found:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _tree(f"{prefix}/{path.name}", path)
        elif stat.S_ISREG(mode):
            yield f"{prefix}/{path.name}", path
