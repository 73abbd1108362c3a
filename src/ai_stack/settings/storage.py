"""Settings of PostgreSQL, Redis and the vector index."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from ai_stack.settings.part import Part, named, number


class Storage(Part):
    """Where documents, the cache and vectors are kept."""

    database_url: SecretStr | None = Field(
        None, description="postgresql:// URL; by default a supervised PostgreSQL."
    )
    database_admin_url: SecretStr | None = Field(
        None, description="URL of the role that owns the schema; by default database_url."
    )
    database_replica_url: SecretStr | None = Field(
        None,
        description="URL of a PostgreSQL that follows the one of database_url, for what searches "
        "read; it is asked only where it has all that was findable before.",
    )
    database_replica_lag_s: float = Field(
        1,
        gt=0,
        le=60,
        description="Seconds that the replica may be behind; while it is more, the primary is "
        "read.",
    )
    database_connections: int = Field(
        12, ge=2, le=500, description="PostgreSQL connections that one process opens at most."
    )
    postgres_major: Annotated[Literal[16, 18], BeforeValidator(number)] = Field(
        18, description="Major version of the supervised PostgreSQL for a new data folder."
    )
    postgres_host: str | None = Field(
        None, validation_alias=named("POSTGRES_HOST"), description="Host of a PostgreSQL server."
    )
    postgres_port: int = Field(
        5432, ge=1, le=65535, validation_alias=named("POSTGRES_PORT"), description="Its port."
    )
    postgres_user: str = Field(
        "mcp", validation_alias=named("POSTGRES_USER"), description="Its user."
    )
    postgres_password: SecretStr | None = Field(
        None, validation_alias=named("POSTGRES_PASSWORD"), description="Its user's password."
    )
    postgres_db: str = Field(
        "mcp", validation_alias=named("POSTGRES_DB"), description="Its database."
    )

    redis_url: SecretStr | None = Field(
        None,
        description="redis://, rediss://, unix:// or redis+sentinel:// URL; by default a "
        "supervised Redis.",
    )
    redis_host: str | None = Field(
        None, validation_alias=named("REDIS_HOST"), description="Host of a Redis server."
    )
    redis_port: int = Field(
        6379, ge=1, le=65535, validation_alias=named("REDIS_PORT"), description="Its port."
    )
    redis_password: SecretStr | None = Field(
        None, validation_alias=named("REDIS_PASSWORD"), description="Its password."
    )
    redis_maxmemory: str | None = Field(
        None,
        pattern=r"^\d+(kb|mb|gb)?$",
        description="Memory of the supervised Redis; by default it follows from AI_STACK_MEMORY.",
    )
    memory: str | None = Field(
        None,
        pattern=r"^[1-9]\d{0,8}(kb|mb|gb)$",
        description="Memory that the supervised PostgreSQL and Redis are tuned for, such as 16gb; "
        "by default a quarter of the machine's. `ai-stack tune` shows what follows from it.",
    )

    redis_kept_url: SecretStr | None = Field(
        None,
        description="URL of the Redis for what must not be evicted, limits and sessions; by "
        "default a second supervised one, or the one that AI_STACK_REDIS_URL names.",
    )

    vectors_url: SecretStr = Field(
        SecretStr("qdrant-edge:"),
        description="qdrant-edge: (supervised), qdrant://host:6333, or pgvector:",
    )
    qdrant_host: str | None = Field(
        None, validation_alias=named("QDRANT_HOST"), description="Host of a Qdrant server."
    )
    qdrant_port: int = Field(
        6333, ge=1, le=65535, validation_alias=named("QDRANT_PORT"), description="Its HTTP port."
    )
    qdrant_api_key: SecretStr | None = Field(None, description="Key of the Qdrant server.")
