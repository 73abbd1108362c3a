"""All parts of the stack, described from the settings; a new part is one more description."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ai_stack.settings import Settings
from ai_stack.supervisor import Part, Tool, postgres, probes, redis, tuning
from ai_stack.supervisor.account import Account
from ai_stack.tls import of_nobody

PYTHON = (sys.executable, "-m", "ai_stack")
LLAMA_CPP, MODELS_SOCKET = "llama-cpp:", "models.sock"
Description = Callable[[Settings, Account], Iterator[Part]]


def describe(settings: Settings, account: Account, environment: Mapping[str, str]) -> list[Part]:
    """The parts whose URL is not set, in the order that one would start them by hand.

    `environment` holds the settings as variables; what is ours in Python reads them, and
    the addresses of the supervised parts, from there.
    """
    parts = [part for source in DESCRIPTIONS for part in source(settings, account)]
    known = {part.name for part in parts}
    ours = {**environment, **addresses(settings)}
    return [
        replace(
            part,
            needs=tuple(name for name in part.needs if name in known),
            uses=tuple(name for name in part.uses if name in known),
            env={**ours, **part.env} if part.command[0] == sys.executable else part.env,
        )
        for part in parts
    ]


def addresses(settings: Settings) -> dict[str, str]:
    """Where the supervised parts are, as the variables that `serve` and `worker` read."""
    runtime, found = settings.runtime, {}
    if settings.database is None:
        found["AI_STACK_DATABASE_URL"] = f"postgresql://aidb_gateway@/aidb?host={runtime}"
        found["AI_STACK_DATABASE_ADMIN_URL"] = f"postgresql://aidb_owner@/aidb?host={runtime}"
    if settings.redis is None:
        found["AI_STACK_REDIS_URL"] = f"unix://{runtime / 'redis.sock'}"
    if settings.redis_kept is None:
        found["AI_STACK_REDIS_KEPT_URL"] = f"unix://{runtime / 'redis-kept.sock'}"
    if settings.embedder_url.get_secret_value() == "onnx:":
        found["AI_STACK_EMBEDDER_URL"] = f"onnx://{runtime / 'embedder.sock'}"
    if settings.vectors == "qdrant-edge:":
        found["AI_STACK_VECTORS_URL"] = f"qdrant-edge://{runtime / 'vectors.sock'}"
    if LLAMA_CPP in settings.engine_urls:
        host = f"{LLAMA_CPP}//{runtime / MODELS_SOCKET}"
        urls = [host if url == LLAMA_CPP else url for url in settings.engine_urls]
        found["AI_STACK_ENGINES"] = " ".join(urls)
    return found


def _postgres(settings: Settings, account: Account) -> Iterator[Part]:
    if settings.database is None:
        folder = settings.data_dir / "postgres"
        memory = tuning.memory_bytes(settings.memory)
        major = settings.postgres_major
        archive = settings.backups / "wal" if settings.backup_wal else None
        yield from postgres.describe(
            folder, settings.runtime, account, major, memory, archive=archive
        )


def _redis(settings: Settings, account: Account) -> Iterator[Part]:
    if settings.redis is None:
        socket = settings.runtime / "redis.sock"
        memory = tuning.memory_bytes(settings.memory)
        maxmemory = settings.redis_maxmemory or tuning.redis_maxmemory(memory)
        yield redis.describe(settings.data_dir / "redis", socket, account, maxmemory)


def _redis_kept(settings: Settings, account: Account) -> Iterator[Part]:
    if settings.redis_kept is None:
        socket = settings.runtime / "redis-kept.sock"
        folder = settings.data_dir / "redis-kept"
        kept = {"name": "redis-kept", "policy": "noeviction"}
        yield redis.describe(folder, socket, account, redis.KEPT, **kept)


def _embedder(settings: Settings, account: Account) -> Iterator[Part]:
    if settings.embedder_url.get_secret_value() != "onnx:":
        return
    socket = settings.runtime / "embedder.sock"
    threads = settings.embedder_threads or os.cpu_count() or 1
    model = ("--model", settings.embedding_model, "--threads", str(threads))
    options = ("--socket", str(socket), *model, "--cache", str(settings.data_dir / "models"))
    yield Part(
        name="embedder",
        command=(sys.executable, "-m", "ai_stack.embedders.child", *options),
        env={"ORT_DISABLE_TELEMETRY": "1"},  # ONNX Runtime reports to its maker unless told not to
        ready=probes.channel(socket),
        start_s=1800.0,
    )


def _vectors(settings: Settings, account: Account) -> Iterator[Part]:
    if settings.vectors != "qdrant-edge:":
        return
    socket = settings.runtime / "vectors.sock"
    options = ("--socket", str(socket), "--data", str(settings.data_dir / "qdrant"))
    yield Part(
        name="vectors",
        command=(sys.executable, "-m", "ai_stack.vectors.edge_child", *options),
        ready=probes.channel(socket),
        grace_s=60.0,
        start_s=600.0,
    )


def _llama_cpp(settings: Settings, account: Account) -> Iterator[Part]:
    if LLAMA_CPP not in settings.engine_urls:
        return
    socket = settings.runtime / MODELS_SOCKET
    yield Part(
        name="llama-cpp",
        command=(sys.executable, "-m", "ai_stack.supervisor.models", "--socket", str(socket)),
        ready=probes.channel(socket),
        grace_s=15.0,
        aliases=("llama.cpp", "models"),
    )


def _migrate(settings: Settings, account: Account) -> Iterator[Part]:
    settled = None
    if settings.database is None:
        folder = settings.data_dir / "postgres"
        settled = postgres.is_migrated(folder, settings.runtime, settings.postgres_major)
    command = (*PYTHON, "migrate")
    yield Part(name="migrate", command=command, needs=("roles",), once=True, settled=settled)


def _worker(settings: Settings, account: Account) -> Iterator[Part]:
    mark = settings.runtime / "worker.ready"

    async def prepare(tool: Tool) -> None:
        mark.unlink(missing_ok=True)

    yield Part(
        name="worker",
        command=(*PYTHON, "worker"),
        needs=("migrate",),
        uses=("postgres", "redis", "redis-kept", "embedder", "vectors"),
        ready=probes.touched(mark),
        prepare=prepare,
        grace_s=30.0,
    )


def _gateway(settings: Settings, account: Account) -> Iterator[Part]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    tls = None if settings.tls_certificate is None else of_nobody()
    yield Part(
        name="aidb-mcp",
        command=(*PYTHON, "serve"),
        needs=("migrate",),
        uses=("postgres", "redis", "redis-kept", "embedder", "vectors", "llama-cpp"),
        ready=probes.http(host, settings.port, "/health/ready", tls),
        grace_s=settings.drain_s + settings.shutdown_grace_s + 10.0,
        log="aidb.log",
        aliases=("gateway",),
    )


DESCRIPTIONS: tuple[Description, ...] = (
    _postgres,
    _redis,
    _redis_kept,
    _embedder,
    _vectors,
    _llama_cpp,
    _migrate,
    _worker,
    _gateway,
)
