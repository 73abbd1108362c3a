"""A worker process: reads one file after another from its standard input, and trusts none.

`python -m ai_stack.parsers.child --memory BYTES --cpu SECONDS`; started by the pool only.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ai_stack.errors import AIStackError, InvalidRequest, NotFound, TooLarge
from ai_stack.parsers import Limits, Parsed, Source
from ai_stack.parsers.formats import parse
from ai_stack.parsers.pipe import NO_MEMORY, encode, read
from ai_stack.parsers.sandbox import allow_cpu, enter


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--memory", type=int, required=True)
    arguments.add_argument("--cpu", type=float, required=True)
    options = arguments.parse_args()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    enter(options.memory)
    while (request := read(sys.stdin.buffer)) is not None:
        allow_cpu(options.cpu)
        replies.write(_answer(*request))
        replies.flush()


def _answer(header: dict[str, Any], body: bytes) -> bytes:
    try:
        return _encoded(parse(_source(header, body), header["media_type"]))
    except MemoryError:
        return _refused(TooLarge(NO_MEMORY), last=True)
    except RecursionError:
        return _refused(InvalidRequest("This file is nested too deeply."), last=True)
    except AIStackError as error:
        return _refused(error)


def _refused(error: AIStackError, *, last: bool = False) -> bytes:
    """An error; `last` ends this process, whose state is in doubt."""
    return encode({"error": error.message, "code": error.code, "last": last})


def _source(header: dict[str, Any], body: bytes) -> Source:
    limits = Limits(header["expanded_bytes"], header["text_bytes"])
    try:
        data = Path(header["path"]).read_bytes() if header["path"] else body
    except OSError as error:
        raise NotFound("This file is gone or may not be read.") from error
    return Source(header["name"], data, header["charset"], limits)


def _encoded(parsed: Parsed) -> bytes:
    header = {
        "title": parsed.title,
        "metadata": dict(parsed.metadata),
        "language": parsed.language,
        "peak_bytes": _peak_bytes(),
    }
    return encode(header, parsed.text.encode())


def _peak_bytes() -> int:
    """Of this program alone: getrusage would count what the parent had when it forked."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
