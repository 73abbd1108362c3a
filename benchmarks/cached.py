"""What a cached answer costs in the usual way: a FastAPI endpoint that does one redis-py GET.

python benchmarks/cached.py --port 28185 --redis unix:///path/to/redis.sock
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Response
from redis.asyncio import Redis

KEY = "benchmark:cached-answer"


def app(redis: "Redis[bytes]", answer: bytes) -> FastAPI:
    @asynccontextmanager
    async def filled(app: FastAPI) -> AsyncIterator[None]:
        await redis.set(KEY, answer, ex=3600)
        yield
        await redis.aclose()

    made = FastAPI(lifespan=filled)

    @made.post("/v1/chat/completions")
    async def cached() -> Response:
        found = await redis.get(KEY)
        return Response(found or b"{}", media_type="application/json")

    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=28185, help="where it listens, on loopback")
    parser.add_argument("--redis", required=True, help="URL of the Redis that is asked")
    parser.add_argument("--answer-bytes", type=int, default=420, help="size of what is stored")
    given = parser.parse_args()
    served = app(Redis.from_url(given.redis), b'{"content":"%b"}' % (b"x" * given.answer_bytes))
    uvicorn.run(served, port=given.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
