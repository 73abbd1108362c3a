"""Exits 0 when the process of this container does its work: gateway, worker or embedder."""

import asyncio
import http.client
import os
import ssl
import sys
from pathlib import Path

TIMEOUT_S = 5
EMBEDDER = Path("/run/embedder/embedder.sock")


def gateway() -> bool:
    """Whether requests can be served: not without the database, nor shortly before its end."""
    place = ("127.0.0.1", int(os.environ.get("AI_STACK_PORT") or 8091))
    connection = http.client.HTTPConnection(*place, timeout=TIMEOUT_S)
    if os.environ.get("AI_STACK_TLS_CERTIFICATE"):
        anybody = ssl._create_unverified_context()  # noqa: S323 (it asks itself, on loopback)
        connection = http.client.HTTPSConnection(*place, timeout=TIMEOUT_S, context=anybody)
    connection.request("GET", "/health/ready")
    return connection.getresponse().status == 200


def worker() -> bool:
    """Whether the work has begun: the folder is a new one for each start of the container."""
    return Path(os.environ["AI_STACK_RUNTIME_DIR"], "worker.ready").exists()


def embedder() -> bool:
    """Whether the model is loaded."""
    from ai_stack.channel import Channel  # noqa: PLC0415 (the others go without it)

    async def ask() -> None:
        client = Channel(EMBEDDER, timeout_s=TIMEOUT_S)
        try:
            await client.call("ping")
        finally:
            await client.aclose()

    asyncio.run(ask())
    return True


CHECKS = {"gateway": gateway, "worker": worker, "embedder": embedder}


def main(name: str) -> int:
    try:
        return not CHECKS[name]()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is not healthy)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
