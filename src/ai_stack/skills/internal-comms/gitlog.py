"""Commits of a repository, read with git and without running anything that the repository names."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ai_stack.skill import SkillFailed

from .sources import Source

Sort: TypeAlias = Literal["new", "mended", "other"]
MOST, LARGEST_BYTES, TIME_S = 2_000, 32 << 20, 60
RECORD, FIELD = "\x1e", "\x1f"
FORM = FIELD.join(("%x1e%H", "%an", "%aI", "%s", "%b", ""))
SAFE = (
    *("-c", "safe.directory=*", "-c", "log.showSignature=false", "-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null", "-c", "diff.external=", "--no-pager"),
)
PREFIX = re.compile(
    r"^(?P<kind>[a-z]+)(?:\((?P<area>[^)]{1,40})\))?(?P<breaks>!)?:\s+(?P<text>.+)$"
)
BREAKING = re.compile(r"^BREAKING[ -]CHANGE:\s*(.+)$", re.MULTILINE)
RANGE = re.compile(r"[\w./@{}^~][\w./@{}^~-]*(\.{2,3}[\w./@{}^~-]*)?")
KINDS: dict[str, Sort] = {"feat": "new", "perf": "new", "fix": "mended", "security": "mended"}
NEW = re.compile(
    r"(?i)^(add|allow|create|give|implement|introduce|let|make|offer|serve|show|support|write)s?\b"
)
MENDED = re.compile(r"(?i)^(fix|correct|cure|mend|prevent|repair|resolve|revert|stop)(e?s|ed)?\b")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit; `text` is its subject without a prefix."""

    id: str
    author: str
    day: str
    subject: str
    body: str
    files: int
    added: int
    removed: int

    @property
    def source(self) -> Source:
        return Source(
            "commit", f"commit {self.id[:10]}", self.subject, f"{self.author}, {self.day}"
        )

    @property
    def text(self) -> str:
        found = PREFIX.match(self.subject)
        return found["text"] if found else self.subject

    @property
    def sort(self) -> Sort:
        """What kind of change it says that it is."""
        if found := PREFIX.match(self.subject):
            return KINDS.get(found["kind"], "other")
        if NEW.match(self.subject):
            return "new"
        return "mended" if MENDED.match(self.subject) else "other"

    @property
    def breaking(self) -> str:
        """What it says that it breaks; empty for nothing."""
        if found := BREAKING.search(self.body):
            return found[1]
        marked = PREFIX.match(self.subject)
        return self.text if marked and marked["breaks"] else ""

    @property
    def breaking_source(self) -> Source:
        """Where it says so."""
        found = BREAKING.search(self.body)
        quote = found[0] if found else self.subject
        return Source("commit", f"commit {self.id[:10]}", quote, f"{self.author}, {self.day}")


def commits(folder: Path, since: str, until: str, span: str) -> list[Commit]:
    """The commits of a time or range, merges left out, newest first; SkillFailed."""
    if span and not RANGE.fullmatch(span):
        raise SkillFailed("`range` must be a revision or two, as in v1.2..HEAD.")
    limits = [f"--max-count={MOST}", "--no-merges", "--numstat", "--no-ext-diff", "--no-textconv"]
    limits += [f"--since={since}"] if since else []
    limits += [f"--until={until}"] if until else []
    said = _git(folder, "log", f"--pretty=format:{FORM}", *limits, span or "HEAD", "--")
    return [*_parsed(said)]


def _git(folder: Path, *arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        raise SkillFailed("A report on a repository needs git, which is not on PATH.")
    if not (folder / ".git").exists() and not (folder / "HEAD").is_file():
        raise SkillFailed("`repository` is no git repository: there is no .git in it.")
    quiet = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0", "HOME": "/nonexistent"}
    try:
        done = subprocess.run(
            [program, *SAFE, "-C", str(folder), *arguments],
            capture_output=True,
            timeout=TIME_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**quiet, "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired):
        raise SkillFailed("git did not answer in time.") from None
    if done.returncode != 0:
        raise SkillFailed(
            "git cannot read that: the repository is empty, or the range is not in it."
        )
    return done.stdout[:LARGEST_BYTES].decode(errors="replace")


def _parsed(said: str) -> Iterator[Commit]:
    for record in said.split(RECORD)[1:]:
        parts = record.split(FIELD)
        if len(parts) < 6:
            continue
        counted = [line.split("\t") for line in parts[5].splitlines() if line.count("\t") >= 2]
        added = sum(int(c[0]) for c in counted if c[0].isdigit())
        removed = sum(int(c[1]) for c in counted if c[1].isdigit())
        subject, day = " ".join(parts[3].split()), parts[2][:10]
        yield Commit(parts[0], parts[1], day, subject, parts[4], len(counted), added, removed)
