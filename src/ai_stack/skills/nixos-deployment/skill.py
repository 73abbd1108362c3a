"""NixOS deployment: configurations written, checked, and compared."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .changes import between
from .machine import (
    Home,
    Machine,
    System,
    Text,
    User,
    home_file,
    write_configuration,
    write_flake,
    write_home,
)
from .syntax import Checker, Fault, faults, find_nix

MAX_BYTES, MAX_SHOWN = 2 << 20, 200
Options = Annotated[
    dict[str, JsonValue], Field(max_length=2000, description="Options by their paths.")
]
Source = Annotated[str, Field(max_length=MAX_BYTES, description="The Nix text itself.")]


class NixOSDeployment(Skill):
    @action
    async def generate_config(
        self,
        *,
        packages: Annotated[
            tuple[Text, ...], Field(max_length=2000, description="By their paths in nixpkgs.")
        ] = (),
        services: Annotated[
            tuple[Text, ...] | dict[str, dict[str, JsonValue]],
            Field(description="Names of services, or their settings by name."),
        ] = (),
        users: Annotated[tuple[User, ...], Field(max_length=200, description="Accounts.")] = (),
        home_manager: Annotated[
            dict[str, Home], Field(max_length=200, description="Homes by the user's name.")
        ] = {},  # noqa: B006 (the schema's default; nobody changes it)
        options: Options = {},  # noqa: B006
        flake: Annotated[bool, Field(description="Write flake.nix too.")] = False,
        hostname: Annotated[
            str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$",
                       description="Name of the machine.")
        ] = "nixos",
        time_zone: Annotated[str, Field(max_length=60, description="As in Europe/Berlin.")] = "",
        locale: Annotated[str, Field(max_length=60, description="As in en_GB.UTF-8.")] = "",
        state_version: Annotated[
            str, Field(pattern=r"^\d\d\.\d\d$", description="Release that first set it up.")
        ] = "25.11",
        system: Annotated[System, Field(description="The processor, for the flake.")]
        = "x86_64-linux",
        channel: Annotated[
            str, Field(pattern=r"^nixos-(unstable|\d\d\.\d\d)$", description="For the flake.")
        ] = "nixos-unstable",
        unfree: Annotated[bool, Field(description="Whether unfree packages are allowed.")] = False,
    ) -> SkillResult:  # fmt: skip
        """Write a NixOS configuration: packages, services, users, Home Manager, flake."""
        named: dict[str, JsonValue] = {name: {} for name in services}
        named |= services if isinstance(services, dict) else {}
        machine = Machine(
            packages=packages, services=named, users=users, homes=home_manager, options=options,
            hostname=hostname, time_zone=time_zone, locale=locale,
            state_version=state_version, unfree=unfree,
        )  # fmt: skip
        _known(machine)
        files = {"configuration.nix": write_configuration(machine)}
        files |= {home_file(name): write_home(name, machine) for name in home_manager}
        if flake:
            files["flake.nix"] = write_flake(machine, system, channel)
        return await self._given(files, machine)

    async def _given(self, files: Mapping[str, str], machine: Machine) -> SkillResult:
        checker = _checker("auto")
        for name, text in files.items():
            if wrong := await faults(text, checker):
                raise SkillFailed(f"{name}:{wrong[0].line} would be broken: {wrong[0].message}")
            self.context.artifact(name).write_text(text)
        notes = [f"system.stateVersion is {machine.state_version}: the release that first set the"
                 " machine up, which stays."]  # fmt: skip
        if machine.homes and "flake.nix" not in files:
            notes.append("Import the home files by Home Manager; a flake would do it for you.")
        output: dict[str, JSON] = {"files": dict(files), "checked_by": checker}
        return SkillResult(output, f"Wrote {', '.join(files)}.", tuple(notes))

    @action
    async def validate(
        self,
        files: Annotated[tuple[File, ...], Field(max_length=200, description="Nix files.")] = (),
        text: Source = "",
        checker: Annotated[
            Literal["auto", "nix", "tree-sitter"],
            Field(description="Who checks; auto is Nix where it is installed."),
        ] = "auto",
    ) -> SkillResult:
        """Find what is wrong in Nix files, with its line."""
        if bool(files) == bool(text):
            raise SkillFailed("Give either files or a text.")
        chosen = _checker(checker)
        texts = [("text", text)] if text else [(f.name, _read(f)) for f in files]
        rows: list[JSON] = []
        for number, (name, held) in enumerate(texts, 1):
            await self.context.progress(number, len(texts), name)
            rows += [_row(name, fault) for fault in await faults(held, chosen)]
        told = f"{len(texts)} checked by {chosen}: " + (f"{len(rows)} errors." if rows else "fine.")
        notes = ("Nix is not installed: names that are not defined were not looked for.",)
        output: dict[str, JSON] = {"valid": not rows, "errors": rows, "checked_by": chosen}
        return SkillResult(output, told, notes if find_nix() is None else ())

    @action
    async def explain_diff(
        self,
        before: Annotated[File | None, Field(description="The configuration as it was.")] = None,
        after: Annotated[File | None, Field(description="As it is to be.")] = None,
        before_text: Source = "",
        after_text: Source = "",
    ) -> SkillResult:
        """Explain what changes between two configurations, and what deserves a look."""
        old, new = _either(before, before_text, "before"), _either(after, after_text, "after")
        for name, text in (("before", old), ("after", new)):
            if wrong := await faults(text, "tree-sitter"):
                raise SkillFailed(f"{name}, line {wrong[0].line}: {wrong[0].message}")
        found = await asyncio.to_thread(between, old, new)
        risky = [change for change in found if change.risk]
        rows: list[JSON] = [change.to_json() for change in found[:MAX_SHOWN]]
        lines = [f"{len(found)} options differ, {len(risky)} of them deserve a look."]
        lines += [f"! {change.told} {change.risk}" for change in risky[:4]]
        output: dict[str, JSON] = {"total": len(found), "risky": len(risky), "changes": rows}
        notes = (f"{MAX_SHOWN} of {len(found)} are shown.",) if len(found) > MAX_SHOWN else ()
        return SkillResult(output, "\n".join(lines), notes)


def _known(machine: Machine) -> None:
    names = [user.name for user in machine.users]
    if len(set(names)) < len(names):
        raise SkillFailed("A user is named twice.")
    strange = [name for name in machine.homes if name not in (*names, "root")]
    if strange:
        raise SkillFailed(f"{strange[0][:60]!r} has a home, and is none of `users`.")


def _checker(asked: str) -> Checker:
    if asked == "tree-sitter" or (asked == "auto" and find_nix() is None):
        return "tree-sitter"
    return "nix"


def _row(name: str, fault: Fault) -> dict[str, JSON]:
    place = f"{name}:{fault.line}"
    return {"file": name, "line": fault.line, "column": fault.column, "message": fault.message,
            "place": place}  # fmt: skip


def _either(file: Path | None, text: str, name: str) -> str:
    if (file is None) == (not text):
        raise SkillFailed(f"Give `{name}` as a file, or `{name}_text`.")
    return text if file is None else _read(file)


def _read(file: Path) -> str:
    try:
        if not file.is_file() or file.stat().st_size > MAX_BYTES:
            raise SkillFailed(f"{file.name} is no file, or larger than {MAX_BYTES >> 20} MiB.")
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise SkillFailed(f"{file.name} cannot be read as UTF-8 text.") from None
    if not text.strip():
        raise SkillFailed(f"{file.name} is empty.")
    return text
