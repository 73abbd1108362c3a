"""Where a deployment keeps its choices, secrets and data; it knows no container."""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from failure import Failed

NAME = "nixos-ai-stack"
# Who owns each folder of the data: a service, and a user of its image as chown has it.
OWNERS = {
    "postgres": ("postgres", "postgres:"),
    "redis": ("redis", "redis:"),
    "redis-kept": ("redis", "redis:"),
    "qdrant": ("qdrant", "1000:1000"),
    "redis-insight": ("redis-insight", "node:"),
    "llama-cpp-models": ("aidb-mcp", "10001:10001"),
    "secrets": ("aidb-mcp", "10001:10001"),
    "backups": ("aidb-mcp", "10001:10001"),
    "exports": ("aidb-mcp", "10001:10001"),
    "models": ("aidb-mcp", "10001:10001"),
}


def home(kind: str, default: str) -> Path:
    base = os.environ.get(f"XDG_{kind}_HOME") or Path.home() / default
    return Path(base, NAME)


@dataclass(frozen=True)
class Place:
    """Where the settings and the data are."""

    config: Path
    data: Path

    @property
    def folder(self) -> Path:
        return self.config / "containers"

    @property
    def choices(self) -> Path:
        return self.folder / "compose.env"

    def chosen(self) -> dict[str, str]:
        """What an earlier deployment was told."""
        lines = self.choices.read_text().splitlines() if self.choices.exists() else []
        return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")

    def choose(self, choices: Mapping[str, str]) -> None:
        text = "".join(f"{name}={value}\n" for name, value in sorted(choices.items()))
        _write(self.choices, f"# Written by `deploy`; its options change it.\n{text}", 0o600)

    def make(self) -> None:
        """Folders and secrets; what is there stays as it is."""
        if (self.data / "layout.json").exists():
            raise Failed(
                f"{self.data} belongs to a stack that `ai-stack up` runs. Name another folder by "
                "--data; `ai-stack backup` takes what is in the one to the other."
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (*OWNERS, "imports"):
            (self.data / name).mkdir(parents=True, exist_ok=True)
        for name, content in new_secrets(self._known).items():
            if not (self.folder / name).exists():
                _write(self.folder / name, content, 0o444)  # in a folder that is closed

    def _known(self, name: str) -> str | None:
        path = self.folder / name
        return path.read_text() if path.exists() else None


def new_secrets(known: Callable[[str], str | None]) -> dict[str, str]:
    """The files of secrets; those that hold the same password agree, also with what is known."""

    def password(name: str) -> str:
        return known(name) or secrets.token_urlsafe(32)

    names = ("postgres_password", "owner_password", "gateway_password", "qdrant_api_key")
    plain = {name: password(name) for name in (*names, "grafana_password")}
    auth = known("redis_auth") or f"requirepass {secrets.token_urlsafe(32)}\n"
    redis = auth.split()[1]
    servers = [
        {"name": name, "host": name, "port": 6379, "password": redis}
        for name in ("redis", "redis-kept")
    ]
    database = "postgresql://{}:{}@postgres:5432/mcp".format
    return plain | {
        "database_url": database("aidb_gateway", plain["gateway_password"]),
        "database_admin_url": database("aidb_owner", plain["owner_password"]),
        "redis_auth": auth,
        "redis_url": f"redis://:{redis}@redis:6379",
        "redis_kept_url": f"redis://:{redis}@redis-kept:6379",
        "redis_insight": json.dumps(servers),
        "qdrant_config": f"service:\n  api_key: {plain['qdrant_api_key']}\n",
        "metrics_key": "put the key of `ai-stack keys create prometheus --scope operate` here\n",
    }


def _write(path: Path, content: str, mode: int) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(content)
    draft.chmod(mode)
    draft.replace(path)
