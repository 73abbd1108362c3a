"""A machine as callers describe it, and the files that configure it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ai_stack.skill import SkillFailed

from .expression import PACKAGE, Raw, Value, bindings, package, split, string

System: TypeAlias = Literal["x86_64-linux", "aarch64-linux"]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=300)]
HEAD = "# Written by the skill nixos-deployment; change it as you like.\n"
MAX_SETTINGS = 20_000


class User(BaseModel):
    """An account of the machine."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,30}$", description="Login name.")]
    description: Annotated[str, Field(max_length=300, description="Full name.")] = ""
    groups: Annotated[tuple[Text, ...], Field(max_length=50, description="As in wheel.")] = ()
    shell: Annotated[str, Field(max_length=100, description="A package, as in zsh.")] = ""
    keys: Annotated[tuple[str, ...], Field(max_length=50, description="Public SSH keys.")] = ()
    packages: Annotated[tuple[Text, ...], Field(max_length=500)] = ()


class Home(BaseModel):
    """What Home Manager sets up for one user."""

    model_config = ConfigDict(extra="forbid")

    packages: Annotated[tuple[Text, ...], Field(max_length=500)] = ()
    programs: Annotated[
        dict[str, JsonValue], Field(description="`programs.<name>`, enabled unless told otherwise.")
    ] = {}
    files: Annotated[dict[str, str], Field(description="Text of files below the home.")] = {}
    variables: Annotated[dict[str, str], Field(description="Environment of the session.")] = {}
    options: Annotated[dict[str, JsonValue], Field(description="Other options by their path.")] = {}


class Machine(BaseModel):
    """Everything that is asked for."""

    packages: tuple[str, ...]
    services: Mapping[str, JsonValue]
    users: tuple[User, ...]
    homes: Mapping[str, Home]
    options: Mapping[str, JsonValue]
    hostname: str
    time_zone: str
    locale: str
    state_version: str
    unfree: bool


class Options:
    """Options by their paths; one that is set twice in different ways is refused."""

    def __init__(self) -> None:
        self.tree: dict[str, Value] = {}

    def set(self, steps: Sequence[str], value: Value) -> None:
        if isinstance(value, Mapping) and value and set(value) != {PACKAGE}:
            for key, item in value.items():
                self.set((*steps, key), item)
            return
        if len(steps) > MAX_SETTINGS or not all(steps):
            raise SkillFailed("An option has an empty name.")
        place = self.tree
        for number, step in enumerate(steps[:-1], 1):
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict) or set(inner) == {PACKAGE}:
                raise SkillFailed(f"{'.'.join(steps[:number])} is set twice, differently.")
            place = inner
        last = steps[-1]
        if last in place and place[last] != value:
            raise SkillFailed(f"{'.'.join(steps)} is set twice, differently.")
        place[last] = value

    def enable(self, group: str, settings: Mapping[str, JsonValue]) -> None:
        """Services or programs, each enabled unless its settings say otherwise."""
        for name, given in settings.items():
            if not isinstance(given, Mapping):
                raise SkillFailed(f"The settings of {name[:100]} must be a map of options.")
            self.set((group, *split(name)), {"enable": True, **given})


def write_configuration(machine: Machine) -> str:
    """configuration.nix."""
    options = Options()
    for steps, value in _told(machine):
        options.set(steps, value)
    options.enable("services", machine.services)
    for user in machine.users:
        for key, value in _user(user):
            options.set(("users", "users", user.name, key), value)
        if user.shell in ("zsh", "fish"):  # NixOS wants the shell's own module as well
            options.set(("programs", user.shell, "enable"), True)
    for name, given in machine.options.items():
        options.set(split(name), given)
    tree: dict[str, Value] = {"imports": [Raw("./hardware-configuration.nix")], **options.tree}
    return f"{HEAD}{{ config, lib, pkgs, ... }}:\n\n{{\n{bindings(tree, '  ')}}}\n"


def write_home(name: str, machine: Machine) -> str:
    """home-<name>.nix, a module of Home Manager."""
    wanted, options = machine.homes[name], Options()
    options.set(("home", "username"), name)
    options.set(("home", "homeDirectory"), "/root" if name == "root" else f"/home/{name}")
    options.set(("home", "stateVersion"), machine.state_version)
    if wanted.packages:
        options.set(("home", "packages"), _packages(wanted.packages))
    if wanted.variables:
        options.set(("home", "sessionVariables"), dict(wanted.variables))
    for file, text in wanted.files.items():
        if file.startswith("/") or ".." in file.split("/"):
            raise SkillFailed(f"{file[:100]!r} does not lie below the home of {name}.")
        options.set(("home", "file", file, "text"), text)
    options.enable("programs", wanted.programs)
    for key, given in wanted.options.items():
        options.set(split(key), given)
    return f"{HEAD}{{ config, lib, pkgs, ... }}:\n\n{{\n{bindings(options.tree, '  ')}}}\n"


def write_flake(machine: Machine, system: System, channel: str) -> str:
    """flake.nix, with Home Manager as a module of the system where anybody has a home."""
    release = channel.removeprefix("nixos-")
    manager = "master" if release == "unstable" else f"release-{release}"
    inputs: dict[str, Value] = {"nixpkgs": {"url": f"github:NixOS/nixpkgs/{channel}"}}
    modules: list[Value] = [Raw("./configuration.nix")]
    if machine.homes:
        inputs["home-manager"] = {
            "url": f"github:nix-community/home-manager/{manager}",
            "inputs": {"nixpkgs": {"follows": "nixpkgs"}},
        }
        modules += [Raw("home-manager.nixosModules.home-manager"), Raw(_homes(machine))]
    names = "self, nixpkgs" + (", home-manager" if machine.homes else "")
    listed = "".join(f"        {m.code}\n" for m in modules if isinstance(m, Raw))
    return (
        f"{HEAD}{{\n  description = {string('NixOS on ' + machine.hostname)};\n\n"
        f"{bindings({'inputs': inputs}, '  ')}\n"
        f"  outputs = {{ {names}, ... }}: {{\n"
        f"    nixosConfigurations.{string(machine.hostname)} = nixpkgs.lib.nixosSystem {{\n"
        f"      system = {string(system)};\n      modules = [\n{listed}      ];\n"
        "    };\n  };\n}\n"
    )


def _homes(machine: Machine) -> str:
    tree: dict[str, Value] = {"useGlobalPkgs": True, "useUserPackages": True}
    tree["users"] = {name: Raw(f"import ./{home_file(name)}") for name in machine.homes}
    return "{\n" + bindings({"home-manager": tree}, " " * 10) + " " * 8 + "}"


def home_file(name: str) -> str:
    return f"home-{name}.nix"


def _told(machine: Machine) -> Iterator[tuple[tuple[str, ...], Value]]:
    """The options that have an argument of their own."""
    yield ("networking", "hostName"), machine.hostname
    if machine.time_zone:
        yield ("time", "timeZone"), machine.time_zone
    if machine.locale:
        yield ("i18n", "defaultLocale"), machine.locale
    if machine.unfree:
        yield ("nixpkgs", "config", "allowUnfree"), True
    yield ("nix", "settings", "experimental-features"), ["nix-command", "flakes"]
    if machine.packages:
        yield ("environment", "systemPackages"), _packages(machine.packages)
    yield ("system", "stateVersion"), machine.state_version


def _user(user: User) -> Iterator[tuple[str, Value]]:
    yield "isNormalUser", True
    if user.description:
        yield "description", user.description
    if user.groups:
        yield "extraGroups", [*user.groups]
    if user.shell:
        yield "shell", package(user.shell)
    if user.packages:
        yield "packages", _packages(user.packages)
    if user.keys:
        yield "openssh", {"authorizedKeys": {"keys": [*user.keys]}}


def _packages(names: Sequence[str]) -> list[Value]:
    return [package(name) for name in dict.fromkeys(names)]
