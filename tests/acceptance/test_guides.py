"""The guides as they stand: every console and python block is run against a real stack.

In a `console` block a line that begins with `$ ` is a command, and the lines below it must appear
in what it prints, in their order; `…` stands for anything. `console exit=1` expects that status.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stacks import free_port

ROOT = Path(__file__).parents[2]
FIRST = "getting-started"  # starts the stack on an empty home, and stops it on the way
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"), key=lambda path: (path.stem != FIRST, path))
BLOCK = re.compile(r"^```(console|python)(?: exit=(\d))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:8091"


@dataclass
class Command:
    """One command of a console block, or a whole python block."""

    words: list[str]
    status: int = 0
    expected: list[str] = field(default_factory=list)


def commands(text: str) -> Iterator[Command]:
    for language, status, body in BLOCK.findall(text):
        if language == "python":
            yield Command([sys.executable, "-c", body])
            continue
        current: Command | None = None
        for line in body.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                if current is not None:
                    yield current
                current = Command(["bash", "-c", line[2:]], int(status or 0))
            elif line.strip():
                assert current is not None, f"output before a command: {line}"
                current.expected.append(line)
        if current is not None:
            yield current


def missing(expected: list[str], said: str) -> str | None:
    """The first expected fragment that what was said lacks, in order."""
    rest = " ".join(said.split())
    for fragment in (part for line in expected for part in line.split("…")):
        wanted = " ".join(fragment.split())
        _, found, rest = rest.partition(wanted)
        if not found and wanted:
            return wanted
    return None


class Reader:
    """Somebody who follows the guides on an empty home, at a port that is free."""

    def __init__(self, home: Path) -> None:
        home.chmod(0o700)
        self.home = home
        self.port = free_port()
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "AI_STACK_PORT": str(self.port),
            "AI_STACK_WATCH_INTERVAL_S": "0.2",
        }

    def __call__(self, command: Command, folder: Path) -> str:
        here = f"127.0.0.1:{self.port}"
        words = [word.replace(ADDRESS, here) for word in command.words]
        done = subprocess.run(
            words, env=self.environment, cwd=folder, capture_output=True, text=True, timeout=180
        )
        said = (done.stdout + done.stderr).replace(here, ADDRESS)
        told = f"{command.words[-1]}\nexited {done.returncode} and said:\n{said}"
        assert done.returncode == command.status, told
        lacks = missing(command.expected, said)
        assert lacks is None, f"{told}\nwithout: {lacks}"
        return said

    def shell(self, line: str) -> str:
        return self(Command(["bash", "-c", line]), self.home)

    def clear(self) -> None:
        """Leave nothing of one guide to the next."""
        listed = json.loads(self.shell("ai-stack documents list --all --json"))
        ids = " ".join(f"'{document['id']}'" for document in listed["items"])
        if ids:
            self.shell(f"ai-stack documents delete {ids}")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(tmp_path_factory.mktemp("home"))
    try:
        yield made
    finally:
        made.shell("ai-stack down")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_works_as_written(guide: Path, reader: Reader, tmp_path: Path) -> None:
    found = list(commands(guide.read_text()))
    if not found:
        pytest.skip("nothing in it runs")
    if guide.stem != FIRST:
        reader.shell("ai-stack up --detach")
        reader.clear()
    for command in found:
        reader(command, tmp_path)


def test_the_runner_can_fail(reader: Reader, tmp_path: Path) -> None:
    text = "```console\n$ printf 'one two\\nthree'\none…two\nfour\n```\n"
    (command,) = commands(text)
    assert missing(command.expected, "one two three") == "four"
    with pytest.raises(AssertionError, match="without: four"):
        reader(command, tmp_path)
    with pytest.raises(AssertionError, match="exited 1"):
        reader(Command(["bash", "-c", "false"]), tmp_path)
