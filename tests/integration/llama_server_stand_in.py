#!/usr/bin/env python3
"""A stand-in for llama-server: tells at /told how it was started; knows no --cors-origins."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

HELP = """
-m,    --model FNAME
-c,    --ctx-size N
-b,    --batch-size N
-ngl,  --gpu-layers N
-ctk,  --cache-type-k TYPE
-ctv,  --cache-type-v TYPE
--metrics
--slots
--jinja
--embedding, --embeddings
--models-dir PATH
"""
DEVICES = """Available devices:
  GPU0: A made-up card (24000 MiB, 23000 MiB free)
  GPU1: A made-up card (24000 MiB, 23000 MiB free)
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        told = json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ)})
        answers = {"/health": {"status": "ok"}, "/slots": [], "/told": {"told": told}}
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


if "--help" in sys.argv:
    print(HELP)
elif "--list-devices" in sys.argv:
    print(DEVICES)
else:
    port = int(sys.argv[sys.argv.index("--port") + 1])
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()
