"""What the services reach other processes through, opened in order as the settings name it."""

import asyncio
import os
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ai_stack.caches import Cache, open_cache, unmarked
from ai_stack.caches.conversations import Conversations, open_conversations
from ai_stack.caches.counters import Counters, open_counters
from ai_stack.caches.traces import Traces
from ai_stack.database import Database, open_database
from ai_stack.database.notices import Notices
from ai_stack.database.replica import Replica, mark
from ai_stack.database.runs import CHANNEL
from ai_stack.embedders import open_embedder
from ai_stack.engines import Engine, open_engine
from ai_stack.errors import SettingsError
from ai_stack.parsers.pool import ParserPool
from ai_stack.rerankers import Reranker, open_reranker
from ai_stack.sandbox import Sandbox, find_sandbox
from ai_stack.services.embedding import Models
from ai_stack.services.encryption.keyring import Keyring
from ai_stack.services.encryption.masters import MasterFiles
from ai_stack.settings import Settings
from ai_stack.telemetry import Telemetry, open_telemetry
from ai_stack.vectors import Vectors, open_vectors

SUPERVISED = "llama-cpp:"  # the supervisor's own, where there is none


@dataclass(frozen=True, slots=True)
class Doors:
    """What the services reach the other processes through."""

    database: Database
    cache: Cache
    conversations: Conversations
    counters: Counters
    traces: Traces
    vectors: Vectors
    models: Models
    reranker: Reranker | None
    parsers: ParserPool
    notices: Notices
    engines: list[Engine]
    sandbox: Sandbox
    telemetry: Telemetry
    keyring: Keyring
    own_key: bytes  # what the stack's own secrets are sealed with
    replica: Replica | None = None


async def open_doors(settings: Settings, exits: AsyncExitStack, watched: bool) -> Doors:
    """Open everything in order; `exits` closes it in reverse. Raises as `open_stack` does."""
    wall = asyncio.create_task(asyncio.to_thread(find_sandbox))  # it takes as long as the database
    exits.callback(wall.cancel)
    telemetry, keyring = open_telemetry(settings), Keyring(MasterFiles(settings.master_file))
    database = await open_database(
        _required(settings.database, "AI_STACK_DATABASE_URL"),
        connections=settings.database_connections,
        disk=_disk(settings),
        watched=watched,
        statements=telemetry.statements,
        keyring=keyring,
    )
    exits.push_async_callback(database.aclose)
    await keyring.check(database)
    replica = _replica(settings, database, telemetry, keyring)
    marked = unmarked if replica is None else partial(mark, database)
    cache = open_cache(_required(settings.redis, "AI_STACK_REDIS_URL"), marked)
    exits.push_async_callback(cache.aclose)
    conversations = open_conversations(settings.redis_kept or "")
    exits.push_async_callback(conversations.aclose)
    counters = open_counters(settings.redis_kept or "")
    exits.push_async_callback(counters.aclose)
    traces = Traces([settings.redis or "", settings.redis_kept or ""])
    exits.push_async_callback(traces.aclose)
    vectors = await exits.enter_async_context(_vectors(settings, database))
    if replica is not None:
        await exits.enter_async_context(replica.running())
    models = Models(database, lambda name: open_embedder(settings, name), telemetry.counted)
    exits.push_async_callback(models.aclose)
    reranker = open_reranker(settings)
    if reranker is not None:
        exits.push_async_callback(reranker.aclose)
    parsers = _parsers(settings)
    exits.push_async_callback(parsers.aclose)
    notices = Notices(database, CHANNEL)
    exits.push_async_callback(notices.aclose)
    engines = [open_engine(url) for url in settings.engine_urls if url != SUPERVISED]
    for engine in engines:
        exits.push_async_callback(engine.aclose)
    return Doors(
        database,
        cache,
        conversations,
        counters,
        traces,
        vectors,
        models,
        reranker,
        parsers,
        notices,
        engines,
        await wall,
        telemetry,
        keyring,
        await keyring.own(database),
        replica,
    )


def _replica(
    settings: Settings, primary: Database, telemetry: Telemetry, keyring: Keyring
) -> Replica | None:
    """The server that searches may be read at, which need not be there now."""
    if settings.database_replica_url is None:
        return None
    connect = partial(
        open_database,
        settings.database_replica_url.get_secret_value(),
        connections=settings.database_connections,
        watched=True,
        statements=telemetry.statements,
        keyring=keyring,
    )
    return Replica(primary, connect, settings.database_replica_lag_s)


def _vectors(settings: Settings, database: Database) -> AbstractAsyncContextManager[Vectors]:
    secret = settings.qdrant_api_key
    key = None if secret is None else secret.get_secret_value()
    return open_vectors(settings.vectors, api_key=key, database=database)


def _parsers(settings: Settings) -> ParserPool:
    return ParserPool(
        settings.import_workers or os.cpu_count() or 1,
        settings.import_timeout_s,
        settings.import_memory_bytes,
    )


def _disk(settings: Settings) -> Path | None:
    """Where the supervised PostgreSQL keeps its data; of another server nothing is known."""
    ours = f"host={settings.runtime}" in (settings.database or "")
    return settings.data_dir if ours else None


def _required(url: str | None, variable: str) -> str:
    if url is None:
        raise SettingsError(
            f"{variable} is not set. `ai-stack up` starts what is missing; `serve` and `worker`"
            " start nothing."
        )
    return url
