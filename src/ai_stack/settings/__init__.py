"""The settings: one frozen value, read from the environment and one file, passed in everywhere.

Only this package reads the environment. Variables in the environment win over the file,
the file over the defaults.
"""

import hashlib
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import quote

from dotenv import dotenv_values
from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from ai_stack.errors import SettingsError
from ai_stack.settings.backup import Backup
from ai_stack.settings.gateway import Gateway
from ai_stack.settings.inference import Inference
from ai_stack.settings.limits import Limits
from ai_stack.settings.retrieval import Retrieval
from ai_stack.settings.storage import Storage
from ai_stack.settings.telemetry import Telemetry
from ai_stack.settings.trust import Trust
from ai_stack.settings.wire import Wire, written
from ai_stack.settings.work import Work

APP = "nixos-ai-stack"
MASTER = "ai-stack-master"  # the name of systemd's credential
PREFIX, SUPERVISED = "AI_STACK_", "AI_STACK_SUPERVISED"
FOR_CHILDREN = (
    *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LOCALE_ARCHIVE"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("GGML_VK_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


class Settings(
    Backup, Limits, Telemetry, Trust, Work, Inference, Retrieval, Storage, Wire, Gateway
):
    """Everything that can be configured, its parts from last to first."""

    @property
    def runtime(self) -> Path:
        """The folder of the sockets: short, since a socket's path is limited to 107 bytes."""
        if self.runtime_dir is not None:
            return self.runtime_dir
        digest = hashlib.blake2b(os.fsencode(self.data_dir.absolute()), digest_size=6).hexdigest()
        return Path(f"/tmp/ai-stack-{os.getuid()}-{digest}")  # noqa: S108 (owner is checked)

    @property
    def folders_of_skills(self) -> list[Path]:
        """Where the user's skills lie."""
        return _folders(self.skill_folders) or [self.config_dir / "skills"]

    @property
    def open_to_skills(self) -> list[Path]:
        """The folders whose files a request may name to a skill."""
        ours = [self.data_dir / "imports", self.data_dir / "exports"]
        return [*ours, *_folders(self.skill_paths)]

    @property
    def secrets(self) -> Path:
        """The folder of the stack's own secrets."""
        return self.secrets_dir or self.data_dir / "secrets"

    @property
    def backups(self) -> Path:
        """The folder of the backups."""
        return self.backup_dir or self.data_dir / "backups"

    @property
    def master_file(self) -> Path:
        """Where the master key lies."""
        return self.master_key_file or self.secrets / "master"

    @property
    def gateway_url(self) -> str:
        """Where the data verbs ask: by default the gateway of this machine itself."""
        scheme = "http" if self.tls_certificate is None else "https"
        return self.url or f"{scheme}://{written(self.host)}:{self.port}"

    @property
    def hosts_known(self) -> frozenset[str]:
        """The names that the gateway answers to beside those of loopback."""
        return self.names | {written(self.host).lower()}

    @property
    def database(self) -> str | None:
        """The PostgreSQL URL in force, None when the supervisor is to start one."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        if self.postgres_host is None:
            return None
        secret = self.postgres_password
        password = f":{quote(secret.get_secret_value(), safe='')}" if secret else ""
        user = quote(self.postgres_user, safe="")
        place = f"{self.postgres_host}:{self.postgres_port}"
        return f"postgresql://{user}{password}@{place}/{quote(self.postgres_db, safe='')}"

    @property
    def redis(self) -> str | None:
        """The Redis URL in force, None when the supervisor is to start one."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.redis_host is None:
            return None
        secret = self.redis_password
        password = f":{quote(secret.get_secret_value(), safe='')}@" if secret else ""
        return f"redis://{password}{self.redis_host}:{self.redis_port}"

    @property
    def redis_kept(self) -> str | None:
        """The URL of the Redis that evicts nothing, None when the supervisor is to start one."""
        if self.redis_kept_url is not None:
            return self.redis_kept_url.get_secret_value()
        return self.redis

    @property
    def engine_urls(self) -> list[str]:
        """The engines, each by its URL."""
        return self.engines.get_secret_value().replace(",", " ").split()

    @property
    def vectors(self) -> str:
        if "vectors_url" not in self.model_fields_set and self.qdrant_host is not None:
            return f"qdrant://{self.qdrant_host}:{self.qdrant_port}"
        return self.vectors_url.get_secret_value()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one setting's value came from: `default`, `environment` or a file's path."""

    field: str
    variable: str
    source: str


def variable_of(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else PREFIX + name.upper()


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    return read_settings(environment)[0]


def read_settings(
    environment: Mapping[str, str] | None = None, without: Container[str] = ()
) -> tuple[Settings, list[Origin]]:
    """The settings and the origin of each, variables in `without` left at their defaults.

    A secret may lie in a file of its own, which its variable with `_FILE` at the end names.
    SettingsError names the variable, also as its `fields`, and where it was read.
    """
    environment = os.environ if environment is None else environment
    config_dir = Path(environment.get("AI_STACK_CONFIG_DIR") or _home(environment, "CONFIG"))
    file = config_dir / ".env"
    values = {} if SUPERVISED in environment else _file_values(file)
    given = {"config_dir": str(config_dir), "data_dir": str(_home(environment, "DATA"))}
    given |= _credential(environment)
    origins = []
    for name, field in Settings.model_fields.items():
        variable = variable_of(name, field)
        known = variable not in without
        source = _source(variable, environment, values, file) if known else "default"
        secret = _secret_file(variable, environment, values, source)
        if secret is not None and known and _is_secret(field):
            source, given[name] = secret, _secret_in(variable, secret)
        elif source != "default":
            given[name] = environment.get(variable) or values[variable]
        origins.append(Origin(name, variable, source))
    return _validated(given, origins), origins


def _credential(environment: Mapping[str, str]) -> dict[str, str]:
    """The master key that systemd has given this unit as a credential."""
    file = Path(environment.get("CREDENTIALS_DIRECTORY") or "/nonexistent", MASTER)
    return {"master_key_file": str(file)} if file.is_file() else {}


def _file_values(file: Path) -> dict[str, str]:
    try:
        text = file.read_text() if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The file of settings {file} cannot be read: {error}.") from None
    return {k: v for k, v in dotenv_values(stream=StringIO(text)).items() if v is not None}


def user_folder(variable: str, default: Path) -> Path:
    """A folder of another program, which its own variable may name."""
    return Path(os.environ.get(variable) or default)


def variables(names: Iterable[str]) -> dict[str, str]:
    """Those of these variables that are set, none of the stack's own, for a child to have."""
    ours = {variable_of(*field) for field in Settings.model_fields.items()}
    return {name: os.environ[name] for name in {*names} - ours if name in os.environ}


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    """All variables of this process and more, for a program that the user has chosen."""
    return {**os.environ, **more}


def plain_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The few variables that any child may see: no setting and no secret among them."""
    source = os.environ if environment is None else environment
    return {name: source[name] for name in FOR_CHILDREN if name in source}


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as variables, from which a child process reads the very same ones.

    A child that carries AI_STACK_SUPERVISED reads no file besides: what counts is what
    its supervisor read.
    """
    given = {*settings.model_fields_set, "data_dir", "config_dir", "runtime_dir"}
    values = {name: getattr(settings, name) for name in given}
    values["runtime_dir"] = settings.runtime
    fields = Settings.model_fields
    return {
        variable_of(name, fields[name]): _text(value)
        for name, value in values.items()
        if value is not None
    }


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _folders(text: str) -> list[Path]:
    return [Path(name).expanduser() for name in text.split(":") if name]


def _source(
    variable: str, environment: Mapping[str, str], values: Mapping[str, str], file: Path
) -> str:
    if environment.get(variable):
        return "environment"
    return str(file) if values.get(variable) else "default"


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


def _secret_file(
    variable: str, environment: Mapping[str, str], values: Mapping[str, str], source: str
) -> str | None:
    """The file that is named for a secret, where nothing of more weight gives its value."""
    named = f"{variable}_FILE"
    if source == "environment":
        return None
    return environment.get(named) or (values.get(named) or None if source == "default" else None)


def _secret_in(variable: str, file: str) -> str:
    """What a file holds but for the line's end; SettingsError where it cannot be read."""
    named = f"{variable}_FILE"
    try:
        found = Path(file).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
        raise SettingsError(f"{named}: {reason}.", fields={variable: reason}) from None
    if not found:
        reason = f"{file} is empty"
        raise SettingsError(f"{named}: {reason}.", fields={variable: reason})
    return found


def _home(environment: Mapping[str, str], kind: Literal["CONFIG", "DATA"]) -> Path:
    default = ".config" if kind == "CONFIG" else ".local/share"
    home = environment.get("HOME") or str(Path.home())
    return Path(environment.get(f"XDG_{kind}_HOME") or Path(home) / default) / APP


def _validated(given: Mapping[str, str], origins: list[Origin]) -> Settings:
    by_key = {key: o for o in origins for key in (o.field, o.variable)}
    aliased = {_key(name): value for name, value in given.items()}
    try:
        return Settings.model_validate(aliased)
    except ValidationError as error:
        first = error.errors()[0]
        origin = by_key[str(first["loc"][0])]
        said = f"{origin.variable} ({origin.source}): {first['msg']}."
        raise SettingsError(said, fields={origin.variable: first["msg"]}) from None


def _key(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else name
