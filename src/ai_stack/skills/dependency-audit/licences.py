"""Licences, as the metadata of packages in the folder states them, in SPDX's terms."""

import email
import email.policy
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cyclonedx.spdx import fixup_id, is_expression
from packaging.utils import canonicalize_name

from .packages import Lock, Package

Key: TypeAlias = tuple[str, str, str]
MAX_FILES, MAX_BYTES, MAX_DEPTH = 100_000, 1 << 20, 12
NONE_STATED = ""
REFUSED = {"UNLICENSED", "NONE", "PROPRIETARY", "SEE LICENSE IN LICENSE"}
# How the classifiers and the free texts of Python packages say what SPDX has a name for.
KNOWN = {
    "mit license": "MIT", "mit": "MIT", "the mit license": "MIT", "expat": "MIT",
    "apache software license": "Apache-2.0", "apache license 2.0": "Apache-2.0",
    "apache 2.0": "Apache-2.0", "apache-2.0": "Apache-2.0", "apache 2": "Apache-2.0",
    "bsd license": "BSD-3-Clause", "bsd": "BSD-3-Clause", "new bsd license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause",
    "isc license (iscl)": "ISC", "isc license": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "mpl 2.0": "MPL-2.0",
    "python software foundation license": "PSF-2.0", "psf": "PSF-2.0",
    "gnu general public license v2 (gplv2)": "GPL-2.0-only",
    "gnu general public license v3 (gplv3)": "GPL-3.0-only",
    "gnu general public license v3 or later (gplv3+)": "GPL-3.0-or-later",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu affero general public license v3": "AGPL-3.0-only",
    "the unlicense (unlicense)": "Unlicense", "public domain": "LicenseRef-public-domain",
    "zope public license": "ZPL-2.1",
}  # fmt: skip
CLASSIFIER = "License :: "


@dataclass(slots=True)
class Licences:
    """What is stated for packages by ecosystem, name and version; NONE_STATED is stated too."""

    stated: dict[Key, str] = field(default_factory=dict)

    def of(self, package: Package) -> str | None:
        """An SPDX expression or the text that is stated, NONE_STATED for none, None if unknown."""
        if package.licence is not None:
            return normal(package.licence)
        for version in (package.version, ""):
            found = self.stated.get((package.ecosystem, package.name, version))
            if found is not None:
                return found
        return None


def normal(text: str) -> str:
    """SPDX's form of a licence where it has one; NONE_STATED for what grants nothing."""
    plain = " ".join(text.split())
    if not plain or plain.upper() in REFUSED or len(plain) > 200:
        return NONE_STATED
    known = KNOWN.get(plain.lower()) or fixup_id(plain)
    return known or plain


def terms(licence: str) -> set[str]:
    """The licences that an expression names, or itself."""
    if not is_expression(licence):
        return {licence}
    words = re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", licence)
    return {word.strip() for word in words if word.strip()}


def in_folder(folder: Path, locks: Sequence[Lock]) -> Licences:
    """What the metadata of installed and vendored packages states, below the folder."""
    found = Licences()
    wanted = {package.ecosystem for lock in locks for package in lock.packages}
    for number, path in enumerate(_metadata(folder)):
        if number >= MAX_FILES:
            break
        key, licence = _stated(path)
        if key is not None and key[0] in wanted:
            found.stated[key] = licence
    return found


def _metadata(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        at = Path(place)
        if len(at.relative_to(folder).parts) > MAX_DEPTH:
            folders.clear()
        folders[:] = [f for f in folders if f != ".git"]
        if at.suffix == ".dist-info" and "METADATA" in files:
            yield at / "METADATA"
        elif "package.json" in files and "node_modules" in at.parts:
            yield at / "package.json"
        elif "Cargo.toml" in files and "vendor" in at.parts:
            yield at / "Cargo.toml"


def _stated(path: Path) -> tuple[Key | None, str]:
    try:
        if path.is_symlink() or path.stat().st_size > MAX_BYTES:
            return None, ""
        text = path.read_text("utf-8", "replace")
        if path.name == "METADATA":
            return _python(text)
        if path.name == "package.json":
            return _node(json.loads(text))
        return _crate(tomllib.loads(text))
    except (OSError, ValueError, RecursionError):
        return None, ""


def _python(text: str) -> tuple[Key | None, str]:
    head = email.message_from_string(text.split("\n\n", 1)[0], policy=email.policy.compat32)
    name, version = str(head.get("Name", "")), str(head.get("Version", ""))
    classifiers = [str(c) for c in head.get_all("Classifier", []) if CLASSIFIER in str(c)]
    stated = str(head.get("License-Expression") or "")
    classified = [c.rpartition(" :: ")[2] for c in classifiers]
    free = str(head.get("License") or "").strip()
    licence = stated or (free if normal(free) else "") or " AND ".join(map(normal, classified))
    return ("pypi", canonicalize_name(name), version), normal(licence)


def _node(data: object) -> tuple[Key | None, str]:
    if not isinstance(data, dict) or not data.get("name"):
        return None, ""
    licence = data.get("license") or data.get("licenses")
    rows = licence if isinstance(licence, list) else [licence]
    texts = [str(r.get("type", "")) if isinstance(r, dict) else str(r or "") for r in rows]
    key = ("npm", str(data["name"]), str(data.get("version", "")))
    return key, normal(" OR ".join(filter(None, texts)))


def _crate(data: Mapping[str, object]) -> tuple[Key | None, str]:
    package = data.get("package")
    if not isinstance(package, dict):
        return None, ""
    licence = str(package.get("license") or "").replace("/", " OR ")
    if not licence and package.get("license-file"):
        licence = "LicenseRef-file"
    return ("cargo", str(package.get("name")), str(package.get("version"))), normal(licence)
