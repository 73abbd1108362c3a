"""pip's requirements files: what is pinned, by which hashes, at which line."""

import re
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .packages import Lock, Package

HASH = re.compile(r"\s--hash[=\s](\w+:[0-9a-fA-F]+)")
OPTIONS = re.compile(r"\s--?[a-z][\w-]*([=\s]\S+)?")
EDITABLE = re.compile(r"^(-e|--editable)[=\s]+")
BARE = re.compile(r"^(?:\w+\+)?(?:https?|ssh|git|file)://\S+", re.IGNORECASE)
COMMIT = re.compile(r"@([0-9a-f]{40}|[0-9a-f]{64})(#|$)")
EGG = re.compile(r"[#&]egg=([\w.-]+)")


def read(path: str, text: str) -> Lock:
    """The packages of a requirements file; lines that are none are passed over, as comments."""
    lock = Lock(path, "pip")
    for line, requirement in _logical(text):
        package = _package(line, requirement)
        if package is not None:
            lock.add(package)
    return lock


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, without comments."""
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun or number
        plain = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        parts.append(plain.removesuffix("\\"))
        if not plain.endswith("\\"):
            yield begun, " ".join(parts).strip()
            begun, parts = 0, []
    if parts:
        yield begun, " ".join(parts).strip()


def _package(line: int, text: str) -> Package | None:
    hashes = tuple(found.lower() for found in HASH.findall(text))
    text = EDITABLE.sub("", text)
    if not text or text.startswith("-"):
        return None
    if BARE.match(text):
        return _of_url(line, text.split()[0], _egg(text), hashes)
    try:
        requirement = Requirement(OPTIONS.sub("", text))
    except InvalidRequirement:
        return None
    name = canonicalize_name(requirement.name)
    if requirement.url:
        return _of_url(line, requirement.url, name, hashes)
    exact = [s.version for s in requirement.specifier if s.operator in ("==", "===")]
    pinned = len(exact) == 1 and "*" not in exact[0]
    return Package(
        "pypi", name, exact[0] if pinned else "", line,
        wanted=str(requirement.specifier) or "any version", hashes=hashes,
    )  # fmt: skip


def _of_url(line: int, url: str, name: str, hashes: tuple[str, ...]) -> Package:
    """A package from elsewhere: pinned by a commit, a hash, or the one file that it is."""
    commit = COMMIT.search(url)
    pinned = commit[1] if commit else hashes[0] if hashes else ""
    if not pinned and not url.startswith("git"):
        pinned = url.rpartition("#sha256=")[2] if "#sha256=" in url else ""
    return Package("pypi", name, pinned, line, url, url, hashes, registry=False)


def _egg(url: str) -> str:
    found = EGG.search(url)
    file = url.partition("#")[0].rstrip("/").rpartition("/")[2]
    return canonicalize_name(found[1] if found else file.partition("@")[0].removesuffix(".git"))
