"""PostgreSQL, Redis and engines: whether they answer, and are set so that nothing is lost."""

import asyncio
from collections.abc import Iterator

from ai_stack.caches.pipeline import SERVERS, Address, Down, Pipeline
from ai_stack.cli.diagnosis import Finding, Stack
from ai_stack.database.durability import unsafe_settings
from ai_stack.engines import open_engine
from ai_stack.errors import AIStackError, EngineUnavailable
from ai_stack.supervisor.parts import LLAMA_CPP, addresses

ENGINE_S = 5.0
SCHEMES = tuple(f"{scheme}:" for scheme in SERVERS)


def redis(stack: Stack) -> Iterator[Finding]:
    """A cache that is full must forget the oldest; a server's default refuses the newest."""
    url = stack.settings.redis or addresses(stack.settings).get("AI_STACK_REDIS_URL", "")
    if not url.startswith(SCHEMES) or (stack.settings.redis is None and not stack.runs):
        return
    found = asyncio.run(_configured(url))
    if found is None:
        yield Finding(
            "redis",
            "Redis does not answer.",
            "Nothing is cached and no conversation is kept; all else works.",
            "ai-stack restart redis, or look at the server that AI_STACK_REDIS_URL names",
        )
    elif found["maxmemory-policy"] == "noeviction" and found["maxmemory"] != "0":
        yield Finding(
            "redis",
            "Redis refuses writes when it is full (maxmemory-policy noeviction).",
            "From then on nothing new is cached and conversations are not kept.",
            "redis-cli CONFIG SET maxmemory-policy allkeys-lru",
        )
    elif found["maxmemory"] == "0":
        yield Finding(
            "redis",
            "Redis may take all memory (maxmemory 0).",
            "A cache without a bound grows until the kernel kills something.",
            "redis-cli CONFIG SET maxmemory 512mb",
        )


def redis_kept(stack: Stack) -> Iterator[Finding]:
    """What must not be evicted needs a server that evicts nothing."""
    secret = stack.settings.redis_kept_url
    url = "" if secret is None else secret.get_secret_value()
    found = asyncio.run(_configured(url)) if url.startswith(SCHEMES) else None
    if found is not None and found["maxmemory-policy"] != "noeviction":
        yield Finding(
            "redis",
            f"The Redis for limits and sessions evicts them (maxmemory-policy "
            f"{found['maxmemory-policy']}).",
            "When it is full, limits begin anew and conversations are lost.",
            "redis-cli CONFIG SET maxmemory-policy noeviction",
        )


async def _configured(url: str) -> dict[str, str] | None:
    """Its memory and policy; None when it does not answer or does not tell."""
    pipeline = Pipeline(Address.read(url))
    found = {}
    try:
        for name in ("maxmemory", "maxmemory-policy"):
            answer = await pipeline.call("CONFIG", "GET", name)
            pair = list(answer.values()) if isinstance(answer, dict) else answer
            value = pair[-1] if isinstance(pair, list) and pair else b""
            found[name] = value.decode() if isinstance(value, bytes) else str(value)
    except Down:
        return None
    finally:
        await pipeline.aclose()
    return found


def postgres(stack: Stack) -> Iterator[Finding]:
    url = stack.settings.database or addresses(stack.settings).get("AI_STACK_DATABASE_URL", "")
    if stack.settings.database is None and not stack.runs:
        return
    try:
        unsafe = unsafe_settings(url)
    except AIStackError as error:
        yield Finding(
            "postgres",
            f"PostgreSQL: {error.message}",
            "It holds everything: without it every request fails.",
            "ai-stack logs postgres, or look at the server that AI_STACK_DATABASE_URL names",
        )
        return
    for name in unsafe:
        yield Finding(
            "postgres",
            f"PostgreSQL runs with {name} = off.",
            "A power cut can destroy the database, or lose what was acknowledged.",
            f"ALTER SYSTEM SET {name} = on; then SELECT pg_reload_conf()",
        )


def engines(stack: Stack) -> Iterator[Finding]:
    """The engines that AI_STACK_ENGINES names beside the supervised llama.cpp."""
    urls = [url for url in stack.settings.engine_urls if url != LLAMA_CPP]
    for name, trouble in asyncio.run(_troubled(urls)):
        yield Finding(
            "engines",
            f"The engine at {name} {trouble}.",
            "Models that it alone serves are not there.",
            "start it, or correct AI_STACK_ENGINES, which names it; it is noticed by itself",
        )


async def _troubled(urls: list[str]) -> list[tuple[str, str]]:
    found = await asyncio.gather(*map(_asked, urls))
    return [(name, trouble) for name, trouble in found if trouble]


async def _asked(url: str) -> tuple[str, str]:
    """An engine's name, and what is wrong with it."""
    engine = open_engine(url)
    try:
        async with asyncio.timeout(ENGINE_S):
            models = await engine.models()
    except (EngineUnavailable, TimeoutError):
        return engine.name, "does not answer"
    except AIStackError:
        return engine.name, "answers, but with no list of models; its kind or its key may be wrong"
    finally:
        await engine.aclose()
    return engine.name, "" if models else "serves no model"
