"""SKILL.md: the Agent Skills standard's head and body, and what our metadata adds to it.

https://agentskills.io/specification. The standard leaves `metadata` to the stack that reads it;
ours, all strings, all optional:

    ai-stack-uses: search documents documents:write inference
    ai-stack-isolation: apart, or inline (only skills that come with the stack)
    ai-stack-wall: any, or bubblewrap where nothing else will do (browsers)
    ai-stack-network: none, or host
    ai-stack-reads: folders of the machine that it may read, as in ~/.cursor /proc
    ai-stack-writes: folders that it may write
    ai-stack-programs: programs that it starts, alternatives joined by |, ? where none will do too
    ai-stack-secrets: environment variables that it is given
    ai-stack-memory: 1024 MiB
    ai-stack-mapped: addresses that it reserves and mostly never uses, as V8 does: 65536 MiB
    ai-stack-time: 120 s
    ai-stack-python: Python packages without which it cannot run
    ai-stack-extra: the extra of this distribution that brings them
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import yaml

from ai_stack.errors import InvalidRequest

FILE = "SKILL.md"
PREFIX = "ai-stack-"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
HEAD = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)(.*)\Z", re.DOTALL)
LOOSE = re.compile(r"^(description|compatibility|license):[ \t]+(?![\"'|>])(.+)$", re.MULTILINE)
MAX_BYTES, MAX_HEAD, MAX_NAME = 1 << 20, 64 << 10, 64
MAX_DESCRIPTION, MAX_COMPATIBILITY = 1024, 500
LENIENCE = 8
Use: TypeAlias = Literal["search", "documents", "documents:write", "inference"]
Isolation: TypeAlias = Literal["apart", "inline"]
Network: TypeAlias = Literal["none", "host"]
Wall: TypeAlias = Literal["any", "bubblewrap"]


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a skill may touch; nothing that it does not state."""

    uses: tuple[Use, ...] = ()
    isolation: Isolation = "apart"
    network: Network = "none"
    wall: Wall = "any"
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    memory_bytes: int = 1 << 30
    mapped_bytes: int = 1 << 30
    time_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What SKILL.md says; `body` is its instructions, in Markdown."""

    name: str
    description: str
    body: str
    license: str = ""
    compatibility: str = ""
    allowed_tools: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    permissions: Permissions = Permissions()
    python: tuple[str, ...] = ()
    extra: str = ""


def read_manifest(folder: Path, *, lenient: bool = False) -> Manifest:
    """The manifest of a skill's folder; InvalidRequest says in one sentence what is wrong.

    `lenient` takes longer texts than the standard allows, as skills have them that others wrote.
    """
    try:
        text = read_file(folder / FILE).decode()
    except OSError:
        raise InvalidRequest(f"There is no {FILE} in it that can be read.") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{FILE} is not UTF-8.") from None
    return parse_manifest(text, folder.name, lenient=lenient)


def read_file(file: Path) -> bytes:
    """A file of a skill's folder; OSError for what is none, InvalidRequest for one too large.

    A link to a device, or a pipe, would be read without end.
    """
    if not file.is_file() or not file.resolve().is_relative_to(file.parent.resolve()):
        raise FileNotFoundError(file.name)
    with file.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InvalidRequest(f"{file.name} is larger than {MAX_BYTES >> 20} MiB.")
    return data


def parse_manifest(text: str, folder_name: str, *, lenient: bool = False) -> Manifest:
    """The manifest that a text is, for a folder of this name; InvalidRequest."""
    more = LENIENCE if lenient else 1
    found = _parts(text)
    head = _head(found[1])
    name = _name(head, folder_name)
    metadata = _metadata(head)
    return Manifest(
        name=name,
        description=_text(head, "description", more * MAX_DESCRIPTION, required=True),
        body=found[2].strip(),
        license=_text(head, "license", MAX_BYTES),
        compatibility=_text(head, "compatibility", more * MAX_COMPATIBILITY),
        allowed_tools=_words(head.get("allowed-tools")),
        metadata=metadata,
        permissions=permissions_of(metadata),
        python=_words(metadata.get(f"{PREFIX}python")),
        extra=metadata.get(f"{PREFIX}extra", ""),
    )


def permissions_of(metadata: Mapping[str, str]) -> Permissions:
    """The permissions that metadata states; InvalidRequest for what is none."""

    def words(key: str) -> tuple[str, ...]:
        return _words(metadata.get(PREFIX + key))

    return Permissions(
        uses=_all_of(words("uses"), get_args(Use), "uses"),
        isolation=_one_of(metadata, "isolation", get_args(Isolation)),
        network=_one_of(metadata, "network", get_args(Network)),
        wall=_one_of(metadata, "wall", get_args(Wall)),
        reads=words("reads"),
        writes=words("writes"),
        programs=words("programs"),
        secrets=words("secrets"),
        memory_bytes=int(_amount(metadata, "memory", "MiB", 1024)) << 20,
        mapped_bytes=int(_amount(metadata, "mapped", "MiB", 1024)) << 20,
        time_s=_amount(metadata, "time", "s", 120),
    )


def head_of(text: str) -> dict[str, Any]:
    """All that the head of a SKILL.md says, as it stands there; InvalidRequest."""
    return _head(_parts(text)[1])


def _parts(text: str) -> re.Match[str]:
    found = HEAD.match(text.replace("\r\n", "\n").removeprefix("\ufeff"))
    if found is None:
        raise InvalidRequest(f"{FILE} does not begin with a head between two lines of `---`.")
    return found


def _head(text: str) -> dict[str, Any]:
    """The head's YAML; texts with a colon that are not quoted, as many skills have them, pass."""
    if len(text) > MAX_HEAD:
        raise InvalidRequest(f"The head of {FILE} is larger than {MAX_HEAD >> 10} KiB.")
    for candidate in (text, LOOSE.sub(lambda m: f"{m[1]}: {_quoted(m[2])}", text)):
        try:
            head = _Loader(candidate).get_single_data()
        except (yaml.YAMLError, RecursionError, ValueError):
            continue
        if isinstance(head, dict):
            return head
    raise InvalidRequest(f"The head of {FILE} is not YAML with a field on each line and no alias.")


class _Loader(yaml.SafeLoader):
    """YAML without aliases, a few of which unfold to gigabytes; numbers stay as they are."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as its parent has it)
        first: [(tag, form) for tag, form in forms if not tag.endswith((":int", ":float"))]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        found: yaml.Node | None = super().compose_node(parent, index)
        return found


def _quoted(text: str) -> str:
    return "'" + text.strip().replace("'", "''") + "'"


def _name(head: Mapping[str, Any], folder_name: str) -> str:
    name = head.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidRequest(
            f"`name` must be lowercase letters and digits, parted by hyphens, at most {MAX_NAME}."
        )
    if name != folder_name:
        raise InvalidRequest(f"`name` is {name}, but its folder is {folder_name[:100]!r}.")
    return name


def _text(head: Mapping[str, Any], key: str, longest: int, *, required: bool = False) -> str:
    value = head.get(key)
    text = "" if value is None else str(value).strip()
    if required and not text:
        raise InvalidRequest(f"`{key}` is missing.")
    if len(text) > longest:
        raise InvalidRequest(f"`{key}` has more than {longest} characters.")
    return text


def _metadata(head: Mapping[str, Any]) -> dict[str, str]:
    found = head.get("metadata") or {}
    if not isinstance(found, dict):
        raise InvalidRequest("`metadata` must be a map of texts.")
    return {str(key): str(value) for key, value in found.items()}


def _words(value: object) -> tuple[str, ...]:
    """A list of words, written with spaces, with commas, or as YAML's own list."""
    if isinstance(value, list):
        return tuple(str(item) for item in value)
    return tuple(str(value or "").replace(",", " ").split())


def _all_of(words: Sequence[str], known: Sequence[Any], key: str) -> tuple[Any, ...]:
    unknown = [word for word in words if word not in known]
    if unknown:
        told = f"`{PREFIX}{key}` knows {', '.join(known)}, and no {', '.join(unknown)}."
        raise InvalidRequest(told)
    return tuple(words)


def _one_of(metadata: Mapping[str, str], key: str, known: Sequence[Any]) -> Any:
    value = metadata.get(PREFIX + key, known[0])
    if value not in known:
        raise InvalidRequest(f"`{PREFIX}{key}` must be one of {', '.join(known)}.")
    return value


def _amount(metadata: Mapping[str, str], key: str, unit: str, default: float) -> float:
    text = metadata.get(PREFIX + key, str(default)).removesuffix(unit).strip()
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < 1e6:
        raise InvalidRequest(f"`{PREFIX}{key}` must be a number of {unit}, as in `64 {unit}`.")
    return amount
