"""What editors' own files say of MCP servers: Cursor, Continue, VS Code, Claude, Zed, this stack.

Values of variables and headers are never shown, keys in arguments and addresses neither.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from ai_stack.skill import JSON, SkillFailed

from .directory import recognised

MAX_FILE_BYTES, MAX_SERVERS, MAX_ARGS, MAX_TEXT, MAX_ALIASES = 512 << 10, 100, 64, 500, 20
HIDDEN = "•••"
TELLING = re.compile(r"key|token|secret|pass|pwd|auth|cred|cookie|session|private", re.IGNORECASE)
RANDOM = re.compile(r"[A-Za-z0-9_+=.-]{20,}")
# A string or a comment that does not end is taken to the end, so that none is looked at twice.
JSONC = re.compile(r'"(?:\\.|[^"\\])*"?|//[^\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*[}\]])', re.DOTALL)
ALIAS = re.compile(r"(?:^|[\s\[,:-])\*[A-Za-z0-9_]+", re.MULTILINE)
STACK_FILE = "nixos-ai-stack/mcp.json"
KEYS = ("mcpServers", "servers", "context_servers", "mcp")
EDITORS = (
    ("cursor", "Cursor"), ("continue", "Continue"), ("vscodium", "VSCodium"),
    (".vscode", "VS Code"), ("code/user", "VS Code"), ("claude", "Claude"), ("zed", "Zed"),
    ("nixos-ai-stack", "AI Stack"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Configured:
    """A server of a file. Values of headers are kept for a probe, and never shown."""

    name: str
    command: str = ""
    args: Sequence[str] = ()
    env: Sequence[str] = ()
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    disabled: bool = False

    def json(self) -> dict[str, JSON]:
        """As callers get it."""
        about: dict[str, JSON] = {"name": _short(self.name)}
        if self.url:
            about |= {"transport": "http", "url": _address(self.url)}
        else:
            about |= {"transport": "stdio", "command": _short(self.command)}
            about["args"] = [*_arguments(self.args)]
        secret: dict[str, JSON] = {"env": dict.fromkeys(self.env, HIDDEN)} if self.env else {}
        secret |= {"headers": dict.fromkeys(self.headers, HIDDEN)} if self.headers else {}
        listed = recognised(self.args, self.url) or None
        return {**about, **secret, "disabled": self.disabled, "in_directory": listed}


def known_places() -> list[Path]:
    """Where editors keep such files, of those that are there."""
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [
        home / ".cursor/mcp.json", home / ".continue/config.yaml",
        config / "VSCodium/User/mcp.json", config / "Code/User/mcp.json",
        config / "Claude/claude_desktop_config.json", stack_file(),
    ]  # fmt: skip
    more = sorted((home / ".continue/mcpServers").glob("*.yaml"))
    return [path for path in (*named, *more[:MAX_SERVERS]) if path.is_file()]


def stack_file() -> Path:
    """The file of this stack's own settings."""
    named = os.environ.get("AI_STACK_CONFIG_DIR")
    if named:
        return Path(named) / "mcp.json"
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / STACK_FILE


def editor_of(file: Path) -> str:
    """Whose file it is, by its name, else by the folders that it is in."""
    places = ["/".join(file.parts[-n:]).lower() for n in (1, 2, 3)]
    return next((name for p in places for part, name in EDITORS if part in p), "unknown")


def read_servers(file: Path) -> list[Configured]:
    """The servers of an editor's file, JSON with comments or YAML; SkillFailed."""
    named = _named(_content(file))
    return [_configured(name, told) for name, told in [*named][:MAX_SERVERS]]


def _content(file: Path) -> object:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise SkillFailed(f"It is larger than {MAX_FILE_BYTES >> 10} KiB.")
        text = file.read_text("utf-8-sig")
    except OSError:
        raise SkillFailed("It cannot be read.") from None
    except UnicodeDecodeError:
        raise SkillFailed("It is not UTF-8.") from None
    return _yaml(text) if file.suffix in (".yaml", ".yml") else _json(text)


def _json(text: str) -> object:
    plain = JSONC.sub(lambda m: m[0] if m[0].startswith('"') else " ", text)
    plain = JSONC.sub(lambda m: m[0] if m[0].startswith('"') else " ", plain)
    try:
        return json.loads(plain)
    except json.JSONDecodeError as error:
        raise SkillFailed(f"It is not JSON near line {error.lineno}.") from None
    except (ValueError, RecursionError):
        raise SkillFailed("It is not JSON.") from None


def _yaml(text: str) -> object:
    """YAML without more aliases than people write: a few can stand for gigabytes."""
    if len(ALIAS.findall(text)) > MAX_ALIASES:
        raise SkillFailed("It has more YAML aliases than such a file needs.")
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SkillFailed(f"It is not YAML near line {line}.") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SkillFailed("It is not YAML.") from None


def _named(content: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each server and its name, in whichever of the forms the file has."""
    if not isinstance(content, Mapping):
        raise SkillFailed("It is no object of settings.")
    told: object = next((content[key] for key in KEYS if key in content), {})
    if isinstance(told, Mapping) and isinstance(told.get("servers"), Mapping):
        told = told["servers"]  # VS Code's settings.json
    if isinstance(told, Mapping):
        yield from ((str(n), one) for n, one in told.items() if isinstance(one, Mapping))
    elif isinstance(told, list):
        yield from ((str(one.get("name", "?")), one) for one in told if isinstance(one, Mapping))


def _configured(name: str, told: Mapping[str, object]) -> Configured:
    command = told.get("command")
    if isinstance(command, Mapping):  # Zed's older form
        told, command = {**told, **command}, command.get("path")
    options = told.get("requestOptions")
    headers = options.get("headers") if isinstance(options, Mapping) else told.get("headers")
    return Configured(
        name=name,
        command=str(command or ""),
        args=_texts(told.get("args")),
        env=[*_pairs(told.get("env"))],
        url=str(told.get("url") or told.get("serverUrl") or ""),
        headers=_pairs(headers),
        disabled=told.get("disabled") is True or told.get("enabled") is False,
    )


def _texts(value: object) -> list[str]:
    return [str(v) for v in value[:MAX_ARGS] if _is_plain(v)] if isinstance(value, list) else []


def _pairs(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {_short(str(k)): str(v) for k, v in [*value.items()][:MAX_ARGS] if _is_plain(v)}


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def _arguments(args: Sequence[str]) -> Iterator[str]:
    """Arguments without keys: those after `--token`, `--key=…`, in addresses, and what looks so."""
    before = ""
    for argument in args:
        name, assigned, _ = argument.partition("=")
        if assigned and TELLING.search(name):
            yield f"{_short(name)}={HIDDEN}"
        elif before.startswith("-") and "=" not in before and TELLING.search(before):
            yield HIDDEN
        else:
            yield _plain(argument)
        before = argument


def _plain(argument: str) -> str:
    header, colon, _ = argument.partition(":")
    if colon and TELLING.search(header) and "/" not in header:
        return f"{_short(header)}: {HIDDEN}"
    if "://" in argument:
        return _address(argument)
    return HIDDEN if _is_random(argument) else _short(argument)


def _address(url: str) -> str:
    """An address without who asks, what is asked, and parts of its path that look like keys."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return HIDDEN
    who = f"{HIDDEN}@" if "@" in parts.netloc else ""
    path = "/".join(HIDDEN if _is_random(s) else s for s in parts.path.split("/"))
    asked = f"?{HIDDEN}" if parts.query else ""
    return _short(f"{parts.scheme}://{who}{parts.hostname or ''}{port}{path}{asked}")


def _is_random(text: str) -> bool:
    """Whether it looks like a key: long, of letters and digits, and no words."""
    kinds = {c.isdigit() for c in text if c.isalnum()}
    return RANDOM.fullmatch(text) is not None and len(kinds) == 2


def _short(text: str) -> str:
    plain = "".join(c for c in text if c.isprintable())
    return plain if len(plain) <= MAX_TEXT else f"{plain[: MAX_TEXT - 1]}…"
