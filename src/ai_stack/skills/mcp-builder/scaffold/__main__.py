"""`python -m PACKAGE` speaks over stdin and stdout, `python -m PACKAGE --http 8000` over HTTP."""

import argparse
import asyncio

import uvicorn
from mcp.server.stdio import stdio_server

from .server import create_server


def main() -> None:
    """Serve until the client hangs up, or until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", type=int, metavar="PORT", help="serve at 127.0.0.1:PORT/mcp")
    port = parser.parse_args().http
    if port is None:
        asyncio.run(_stdio())
    else:
        app = create_server().streamable_http_app(stateless_http=True, json_response=True)
        uvicorn.run(app, host="127.0.0.1", port=port)


async def _stdio() -> None:
    server = create_server()
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    main()
