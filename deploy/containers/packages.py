"""Prints the lock of the image: requirements.lock without what containers have from elsewhere.

Engines and the vector index are servers beside the gateway there. With it goes what the
extras `qdrant` and `tracing` need, which only the lock of development holds.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

LEFT_OUT = frozenset({"qdrant-edge-py", "xllamacpp"})
EXTRAS = frozenset(
    (
        *("qdrant-client", "grpcio", "portalocker", "h2", "hpack", "hyperframe"),
        *("opentelemetry-sdk", "opentelemetry-semantic-conventions", "opentelemetry-proto"),
        *("opentelemetry-exporter-otlp-proto-http", "opentelemetry-exporter-otlp-common"),
        *("opentelemetry-exporter-otlp-proto-common", "opentelemetry-exporter-http-transport"),
        "googleapis-common-protos",
    )
)
PIN = re.compile(r"^([A-Za-z0-9._-]+)==.*(?:\n[ \t]+.*)*\n", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """The lines of each package of a lock with its hashes; of one that is there twice, both."""
    found: dict[str, str] = {}
    for pin in PIN.finditer(lock):
        found[pin[1].lower()] = found.get(pin[1].lower(), "") + pin[0]
    return found


def chosen(lock: str, dev_lock: str) -> Iterable[str]:
    ours, theirs = pins(lock), pins(dev_lock)
    yield from (lines for name, lines in ours.items() if name not in LEFT_OUT)
    yield from (lines for name, lines in theirs.items() if name in EXTRAS - ours.keys())


if __name__ == "__main__":
    sys.stdout.writelines(chosen(*(Path(name).read_text() for name in sys.argv[1:3])))
