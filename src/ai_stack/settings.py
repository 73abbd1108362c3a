"""The settings: one frozen value, read from the environment and one file, passed in everywhere.

Only this module reads the environment. Variables in the environment win over the file,
the file over the defaults.
"""

import hashlib
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from dotenv import dotenv_values
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic.fields import FieldInfo

from ai_stack.errors import SettingsError

APP = "nixos-ai-stack"
PREFIX, SUPERVISED = "AI_STACK_", "AI_STACK_SUPERVISED"
FOR_CHILDREN = (
    *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LOCALE_ARCHIVE"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("GGML_VK_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


def _named(variable: str) -> AliasChoices:
    """A field that is read from one of the specification's own variables."""
    return AliasChoices(variable)


def _number(value: object) -> object:
    """Digits as a number, since a Literal of numbers does not read them from a variable."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class Settings(BaseModel):
    """Everything that can be configured; the variable is AI_STACK_<FIELD> where none is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(description="Folder of all data, backed up as one.")
    config_dir: Path = Field(description="Folder of .env and ai-optimizer.json.")
    runtime_dir: Path | None = Field(
        None, description="Folder of the sockets; by default one for each data folder under /tmp."
    )
    run_as: str = Field(
        "nobody", description="The user that the parts run as when the stack is started by root."
    )
    host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(8091, ge=1, le=65535, description="Port that the gateway listens on.")
    shutdown_grace_s: int = Field(
        120, ge=1, description="Longest time that a gateway which stops has for open requests."
    )
    url: str | None = Field(
        None, description="Gateway that the data verbs of the command line talk to."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )

    database_url: SecretStr | None = Field(
        None, description="postgresql:// URL; by default a supervised PostgreSQL."
    )
    database_admin_url: SecretStr | None = Field(
        None, description="URL of the role that owns the schema; by default database_url."
    )
    database_connections: int = Field(
        12, ge=2, le=500, description="PostgreSQL connections that one process opens at most."
    )
    postgres_major: Annotated[Literal[16, 18], BeforeValidator(_number)] = Field(
        18, description="Major version of the supervised PostgreSQL for a new data folder."
    )
    postgres_host: str | None = Field(
        None, validation_alias=_named("POSTGRES_HOST"), description="Host of a PostgreSQL server."
    )
    postgres_port: int = Field(
        5432, ge=1, le=65535, validation_alias=_named("POSTGRES_PORT"), description="Its port."
    )
    postgres_user: str = Field(
        "mcp", validation_alias=_named("POSTGRES_USER"), description="Its user."
    )
    postgres_password: SecretStr | None = Field(
        None, validation_alias=_named("POSTGRES_PASSWORD"), description="Its user's password."
    )
    postgres_db: str = Field(
        "mcp", validation_alias=_named("POSTGRES_DB"), description="Its database."
    )

    redis_url: SecretStr | None = Field(
        None, description="redis://, rediss:// or unix:// URL; by default a supervised Redis."
    )
    redis_host: str | None = Field(
        None, validation_alias=_named("REDIS_HOST"), description="Host of a Redis server."
    )
    redis_port: int = Field(
        6379, ge=1, le=65535, validation_alias=_named("REDIS_PORT"), description="Its port."
    )
    redis_password: SecretStr | None = Field(
        None, validation_alias=_named("REDIS_PASSWORD"), description="Its password."
    )
    redis_maxmemory: str = Field(
        "512mb", pattern=r"^\d+(kb|mb|gb)?$", description="Memory of the supervised Redis."
    )

    vectors_url: SecretStr = Field(
        SecretStr("qdrant-edge:"),
        description="qdrant-edge: (supervised), qdrant://host:6333, or pgvector:",
    )
    qdrant_host: str | None = Field(
        None, validation_alias=_named("QDRANT_HOST"), description="Host of a Qdrant server."
    )
    qdrant_port: int = Field(
        6333, ge=1, le=65535, validation_alias=_named("QDRANT_PORT"), description="Its HTTP port."
    )
    qdrant_api_key: SecretStr | None = Field(None, description="Key of the Qdrant server.")

    embedder_url: SecretStr = Field(
        SecretStr("onnx:"),
        description="onnx: (supervised), or the http(s)://host/v1 of an OpenAI-compatible server.",
    )
    embedder_api_key: SecretStr | None = Field(None, description="Key of that server.")
    embedder_threads: int = Field(
        0, ge=0, le=256, description="Threads of the supervised embedder; 0: one a core."
    )
    embedding_model: str = Field(
        "all-MiniLM-L6-v2",
        description="Model for new embeddings: a built-in name or a hub repository with ONNX.",
    )
    embedding_description: Path | None = Field(
        None, description="JSON file that describes a model which the stack does not know."
    )
    huggingface_token: SecretStr | None = Field(
        None, validation_alias=_named("HUGGING_FACE_HUB_TOKEN"), description="Token for the hub."
    )
    hub_url: str = Field("https://huggingface.co", description="Hub that models come from.")

    rerank_url: str | None = Field(
        None,
        description="http(s)://…/v1/rerank of an engine, or cross-encoder: and the name of a "
        "model that the supervised embedder runs: a built-in one or a hub repository with ONNX.",
    )
    rerank_description: Path | None = Field(
        None, description="JSON file that describes a cross-encoder which the stack does not know."
    )
    hybrid_weight: float = Field(
        0.4, ge=0, le=1, description="Weight of keywords in hybrid search; the meaning's is 1 - w."
    )
    search_cache_ttl_s: int = Field(
        300, ge=0, description="Seconds that a search's answer is kept; 0 keeps none."
    )
    import_max_file_bytes: int = Field(
        100 << 20, ge=1, description="Largest file that an import accepts."
    )
    import_max_total_bytes: int = Field(
        4 << 30, ge=1, description="Largest import request, all its files together."
    )
    import_allow_private_urls: bool = Field(
        False, description="Import URLs whose address is private, loopback or link-local."
    )
    import_workers: int = Field(
        0, ge=0, le=256, description="Processes that read files; 0: one a core."
    )
    import_timeout_s: float = Field(60, gt=0, description="Longest time to read one file.")
    import_memory_bytes: int = Field(
        1 << 30, ge=64 << 20, description="Memory that reading one file may take."
    )
    engines: SecretStr = Field(
        SecretStr("llama-cpp:"),
        description="Inference engines, separated by spaces: llama-cpp: (supervised), "
        "llama-cpp://host:8080, vllm://host:8000, or the http(s)://host/v1 of any other "
        "OpenAI-compatible server, its key as https://:KEY@host/v1.",
    )
    default_model: str | None = Field(
        None, description="Model of a request that names none; by default the first one served."
    )
    inference_timeout_s: float = Field(
        600, gt=0, description="Longest time of one inference, waiting included."
    )
    inference_queue: int = Field(
        256, ge=0, description="Requests that wait for an engine at most; one more gets 429."
    )
    inference_cache_ttl_s: int = Field(
        3600, ge=0, description="Seconds that an answer is kept; 0 keeps none."
    )
    inference_log_bodies: bool = Field(
        False, description="Keep prompts and answers in the log of inferences."
    )
    inference_prices: Path | None = Field(
        None,
        description='JSON file of prices a million tokens: {"model": {"prompt": 1, "completion": '
        "2}}; without it every inference costs 0.",
    )
    semantic_cache: float = Field(
        0,
        ge=0,
        le=1,
        description="Cosine from which a question counts as one that was answered before, 0.97 "
        "for example; 0: only equal questions do. Such an answer may be wrong.",
    )
    session_ttl_s: int = Field(
        86_400, ge=60, description="Seconds that a conversation is kept after its last message."
    )
    llama_cpp_default_model: str | None = Field(
        None,
        validation_alias=_named("LLAMA_CPP_DEFAULT_MODEL"),
        description="Model that llama.cpp serves from the start: a hub repository, or the path of "
        "a GGUF file. A repository that is not here is downloaded.",
    )
    llama_cpp_ctx_size: int = Field(
        4096,
        ge=128,
        validation_alias=_named("LLAMA_CPP_CTX_SIZE"),
        description="Tokens of context for one request.",
    )
    llama_cpp_web_concurrency: int = Field(
        4,
        ge=1,
        le=256,
        validation_alias=_named("LLAMA_CPP_WEB_CONCURRENCY"),
        description="Requests that one llama.cpp server works on at once (slots).",
    )
    llama_cpp_port: int = Field(
        8080, ge=1, le=65535, description="Port of the first supervised llama.cpp server."
    )
    llama_cpp_threads: int = Field(0, ge=0, le=512, description="Its threads; 0: one a core.")
    llama_cpp_gpu_layers: int = Field(
        -1, ge=-1, description="Layers of a model that go to the GPU; -1: as many as fit."
    )
    llama_cpp_devices: str = Field(
        "",
        description="Devices of each server in turn, as llama-server names them: of `CUDA0 CUDA1` "
        "the second gets CUDA1, with `CUDA0,CUDA1` each gets both; empty: all.",
    )
    llama_cpp_cache_type: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = (
        Field("f16", description="Type of the KV cache.")
    )
    llama_cpp_batch: int = Field(2048, ge=32, description="Tokens of a prompt worked on at once.")
    llama_cpp_models: int = Field(
        2, ge=1, le=64, description="Models that are loaded at the same time at most."
    )
    llama_cpp_idle_s: int = Field(
        1800, ge=0, description="Seconds without use after which a model is unloaded; 0: never."
    )
    request_max_bytes: int = Field(
        8 << 20, ge=1024, description="Largest request body, imports aside."
    )
    skill_folders: str = Field(
        "", description="Folders of your skills, parted by `:`; empty: <config_dir>/skills."
    )
    skill_paths: str = Field(
        "", description="Folders, parted by `:`, whose files a request may name to a skill."
    )
    skill_runs: int = Field(4, ge=1, le=64, description="Skills that a worker runs at once.")
    watch_imports: bool = Field(True, description="Follow the files under <data>/imports.")
    watch_interval_s: float = Field(2, gt=0, description="Seconds between looks at that folder.")

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
    def gateway_url(self) -> str:
        return self.url or f"http://{self.host}:{self.port}"

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

    SettingsError names the variable, also as its `fields`, and where it was read.
    """
    environment = os.environ if environment is None else environment
    config_dir = Path(environment.get("AI_STACK_CONFIG_DIR") or _home(environment, "CONFIG"))
    file = config_dir / ".env"
    values = {} if SUPERVISED in environment else _file_values(file)
    given = {"config_dir": str(config_dir), "data_dir": str(_home(environment, "DATA"))}
    origins = []
    for name, field in Settings.model_fields.items():
        variable = variable_of(name, field)
        known = variable not in without
        source = _source(variable, environment, values, file) if known else "default"
        if source != "default":
            given[name] = environment.get(variable) or values[variable]
        origins.append(Origin(name, variable, source))
    return _validated(given, origins), origins


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
