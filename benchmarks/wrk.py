"""Load by wrk, from one core: request bodies by a script in Lua, its figures read as JSON."""

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
local front, back, padded = %(front)s, %(back)s, %(unique)s
local length = #front + #back + (padded and 12 or 0)
local head = "POST %(path)s HTTP/1.1\\r\\nHost: 127.0.0.1:%(port)d\\r\\n%(headers)s"
  .. "Content-Type: application/json\\r\\nContent-Length: " .. length .. "\\r\\n\\r\\n" .. front
local n, same = 0, head .. back
request = function()
  if not padded then return same end
  n = n + 1
  return head .. string.format("%%012d", n) .. back
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nresult {"requests":%%d,"us":%%d,"p50_us":%%d,"p99_us":%%d,"errors":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
PROMPT = "Say in one sentence what a gateway for inference is good for, and to whom. "
UNIQUE = "{unique}"


@dataclass(frozen=True)
class Load:
    """What wrk saw. `errors` are failed connections, reads, writes and statuses above 399."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def body(model: str, *, unique: bool, stream: bool = False, mark: str = "") -> str:
    """A chat request at temperature 0, so that the cache is asked; `mark` tells runs apart."""
    said = f"{PROMPT}{mark or time.time_ns()} {UNIQUE if unique else ''}"
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": said}]
    request = {"model": model, "temperature": 0, "max_tokens": 64, "messages": messages}
    return json.dumps({**request, "stream": True} if stream else request, separators=(",", ":"))


def load(
    port: int,
    body: str,
    *,
    connections: int,
    seconds: int,
    core: int,
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
) -> Load:
    """Post this body for so long; where it has UNIQUE, each request has another number there."""
    front, unique, back = body.partition(UNIQUE)
    values = {
        "front": _quoted(front),
        "back": _quoted(back),
        "unique": "true" if unique else "false",
        "path": path,
        "port": port,
        "headers": "".join(f"{n}: {value}\\r\\n" for n, value in (headers or {}).items()),
    }
    with tempfile.NamedTemporaryFile("w", suffix=".lua", dir="/tmp") as script:
        Path(script.name).write_text(SCRIPT % values)
        pinned = ("taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}")
        command = (*pinned, f"-d{seconds}s", "--timeout", "10s", "-s", script.name)
        done = subprocess.run(
            (*command, f"http://127.0.0.1:{port}"), capture_output=True, text=True, check=True
        )
    return _read(done.stdout)


def _quoted(text: str) -> str:
    return "[==[" + text + "]==]"


def _read(output: str) -> Load:
    line = next(line for line in output.splitlines() if line.startswith("result "))
    seen = json.loads(line.removeprefix("result "))
    per_second = seen["requests"] / (seen["us"] / 1e6)
    return Load(
        seen["requests"], per_second, seen["p50_us"] / 1e3, seen["p99_us"] / 1e3, seen["errors"]
    )
