"""Servers and settings that several gateways share."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

import servers
from ai_stack.engines.memory import MemoryEngine
from engines import StandIn
from processes import CLOSING_S, Ground


@pytest.fixture(scope="module")
def redis() -> Iterator[servers.Redis]:
    with servers.redis("--maxmemory", "64mb") as running:
        yield running


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[StandIn]:
    yield StandIn()


@pytest.fixture(scope="module")
async def ground(
    database_url: str,
    redis: servers.Redis,
    engine: StandIn,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Ground]:
    folder = tmp_path_factory.mktemp("scale")
    async with engine.serving() as port:
        yield Ground(
            folder,
            {
                "AI_STACK_DATABASE_URL": database_url,
                "AI_STACK_DATABASE_CONNECTIONS": "6",
                "AI_STACK_REDIS_URL": f"unix://{redis.socket}",
                "AI_STACK_VECTORS_URL": "pgvector:",
                "AI_STACK_EMBEDDER_URL": "memory:",
                "AI_STACK_ENGINES": f"http://127.0.0.1:{port}/v1",
                "AI_STACK_WATCH_IMPORTS": "false",
                "AI_STACK_BACKUP_DAILY": "false",
                "AI_STACK_AUTH": "required",
                "AI_STACK_SLOW_S": "0.0001",
            },
        )
    await asyncio.sleep(CLOSING_S)


@pytest.fixture
def memory(engine: StandIn) -> Iterator[MemoryEngine]:
    """What stands behind the engine, whose script is for one test."""
    engine.engine.script.clear()
    yield engine.engine
    engine.engine.script.clear()
