"""Lock files of every kind, with planted faults, and an advisory source that is there or not."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ai_stack.skill import SkillFailed, SkillResult
from skills import bound, run

SKILL = "dependency-audit"
REPOSITORY = Path(__file__).parents[3]
HASH = "a" * 64
UV = f"""version = 1
requires-python = ">=3.11"

[[package]]
name = "shop"
version = "1.0"
source = {{ editable = "." }}
dependencies = [{{ name = "alpha" }}]

[[package]]
name = "alpha"
version = "1.0.0"
source = {{ registry = "https://index.example.org/simple" }}
dependencies = [{{ name = "beta", version = "2.0.0" }}]
sdist = {{ url = "https://x/alpha.tar.gz", hash = "sha256:{HASH}" }}

[[package]]
name = "beta"
version = "1.0.0"
source = {{ registry = "http://mirror.example.org/simple" }}

[[package]]
name = "beta"
version = "2.0.0"
source = {{ registry = "https://index.example.org/simple" }}
wheels = [{{ url = "https://x/beta.whl", hash = "sha256:{HASH}" }}]
"""
CARGO = f"""version = 4

[[package]]
name = "shop"
version = "0.1.0"
dependencies = ["rand 0.8.5"]

[[package]]
name = "rand"
version = "0.8.5"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "{HASH}"

[[package]]
name = "rand"
version = "0.9.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "{HASH}"
"""
FLAKE = {
    "nodes": {
        "nixpkgs": {
            "locked": {"owner": "NixOS", "repo": "nixpkgs", "rev": "1" * 40, "narHash": "sha256-a"},
            "original": {"owner": "NixOS", "repo": "nixpkgs"},
        },
        "nixpkgs_2": {
            "locked": {"owner": "nixos", "repo": "nixpkgs", "rev": "2" * 40, "narHash": "sha256-b"},
        },
        "loose": {"original": {"url": "https://example.org/x.tar.gz"}},
        "root": {"inputs": {"nixpkgs": "nixpkgs", "loose": "loose"}},
    },
    "root": "root",
    "version": 7,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "web").mkdir(parents=True)
    (folder / "uv.lock").write_text(UV)
    (folder / "Cargo.lock").write_text(CARGO)
    (folder / "flake.lock").write_text(json.dumps(FLAKE, indent=2))
    (folder / "web/package.json").write_text('{\n  "dependencies": {"left": "^1.0.0"}\n}\n')
    return folder


async def audit(folder: Path, /, **arguments: Any) -> SkillResult:
    arguments.setdefault("advisories", "none")
    return await run(SKILL, folder, action="audit", **arguments)


def faults(result: SkillResult) -> set[tuple[str, str, str, int]]:
    return {(f["kind"], f["path"], f["package"], f["line"]) for f in result.output["faults"]}


async def test_planted_faults_are_found_at_their_lines(project: Path, tmp_path: Path) -> None:
    result = await audit(tmp_path, folder=str(project))
    assert faults(result) == {
        ("duplicated", "uv.lock", "beta", 23),
        ("unhashed", "uv.lock", "beta", 18),
        ("insecure", "uv.lock", "beta", 18),
        ("duplicated", "Cargo.lock", "rand", 15),
        ("duplicated", "flake.lock", "nixos/nixpkgs", 15),
        ("unpinned", "flake.lock", "https://example.org/x.tar.gz", 23),
        ("unlocked", "web/package.json", "", 2),
    }
    assert "uv.lock:23" in (tmp_path / "out/audit.md").read_text()


async def test_a_clean_project_has_no_fault(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "# all of it\n--index-url https://index.example.org/simple\n"
        f"alpha==1.0 \\\n    --hash=sha256:{HASH}  # why\n"
        f"beta[x]==2.0 ; python_version > '3' --hash=sha256:{HASH}\n"
        f"gamma @ git+https://example.org/g@{'b' * 40}\n"
    )
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["alpha"]\n')
    result = await audit(tmp_path, folder=str(tmp_path))
    assert faults(result) == set() and result.output["packages"] == 3


async def test_our_own_lock_file_is_pinned_and_hashed_throughout(tmp_path: Path) -> None:
    result = await audit(tmp_path, files=[str(REPOSITORY / "requirements.lock")])
    assert result.output["packages"] > 50
    assert not {"unpinned", "unhashed", "insecure"} & set(result.output["counts"])


async def test_licences_come_from_what_lies_in_the_folder(project: Path, tmp_path: Path) -> None:
    for name, head in {
        "alpha-1.0.0": "Name: Alpha\nVersion: 1.0.0\nLicense-Expression: MIT OR Apache-2.0\n",
        "beta-1.0.0": "Name: beta\nVersion: 1.0.0\n",
        "beta-2.0.0": (
            "Name: beta\nVersion: 2.0.0\n"
            "Classifier: License :: OSI Approved :: GNU Affero General Public License v3\n"
        ),
    }.items():
        place = project / f".venv/lib/python3.11/site-packages/{name}.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(head + "\nLicense: not this\n")
    (project / "vendor/rand").mkdir(parents=True)
    (project / "vendor/rand/Cargo.toml").write_text(
        '[package]\nname = "rand"\nversion = "0.8.5"\nlicense = "MIT/Apache-2.0"\n'
    )
    result = await run(
        SKILL, tmp_path, action="licences", folder=str(project), deny=["AGPL-3.0-only"]
    )
    assert result.output["licences"] == {
        "MIT OR Apache-2.0": 2,
        "none stated": 1,
        "AGPL-3.0-only": 1,
        "unknown": 5,
    }
    assert [d["version"] for d in result.output["denied"]] == ["2.0.0"]
    assert result.output["unlicensed"] == ["beta"]
    assert "5 packages are unknown" in result.notes[0]
    found = await audit(tmp_path, folder=str(project))
    assert ("unlicensed", "uv.lock", "beta", 18) in faults(found)


async def test_the_bill_is_valid_and_whole(project: Path, tmp_path: Path) -> None:
    result = await run(SKILL, tmp_path, action="sbom", folder=str(project))
    text = (tmp_path / "out/sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    purls = {c["purl"] for c in bill["components"]}
    assert {"pkg:pypi/alpha@1.0.0", "pkg:cargo/rand@0.8.5"} < purls
    assert result.output["components"] == len(bill["components"]) == 9
    needs = {d["ref"]: d.get("dependsOn", []) for d in bill["dependencies"]}
    assert needs["pkg:pypi/alpha@1.0.0"] == ["pkg:pypi/beta@2.0.0"]
    assert needs["pkg:cargo/shop@0.1.0"] == ["pkg:cargo/rand@0.8.5"]
    alpha = next(c for c in bill["components"] if c["name"] == "alpha")
    assert alpha["hashes"] == [{"alg": "SHA-256", "content": HASH}]


async def test_npm_needs_are_found_as_node_finds_them(tmp_path: Path) -> None:
    nested = {
        "lockfileVersion": 1,
        "dependencies": {
            "left": {
                "version": "1.0.0",
                "requires": {"right": "^1"},
                "dependencies": {"right": {"version": "1.0.0"}},
            },
            "right": {"version": "2.0.0"},
        },
    }
    file = tmp_path / "package-lock.json"
    file.write_text(json.dumps(nested))
    await run(SKILL, tmp_path, action="sbom", files=[str(file)])
    bill = json.loads((tmp_path / "out/sbom.cdx.json").read_text())
    needs = {d["ref"]: d.get("dependsOn", []) for d in bill["dependencies"]}
    assert needs["pkg:npm/left@1.0.0"] == ["pkg:npm/right@1.0.0"]


class OSV(BaseHTTPRequestHandler):
    """An advisory source that knows one vulnerable package."""

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        wanted = {"package": {"name": "alpha", "ecosystem": "PyPI"}, "version": "1.0.0"}
        self.answer(
            {"results": [{"vulns": [{"id": "X-1"}]} if q == wanted else {} for q in queries]}
        )

    def do_GET(self) -> None:
        span = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.0.1"}]}
        affected = [{"package": {"name": "alpha"}, "ranges": [span]}]
        self.answer({"summary": "Too open", "aliases": ["CVE-2026-1"], "affected": affected})

    def answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test tells by its outcome."""


class Broken(OSV):
    """One that answers what is none."""

    def answer(self, value: Any) -> None:
        super().answer(["what?"])


@contextmanager
def served(handler: type[OSV]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def advised(project: Path, folder: Path, url: str) -> SkillResult:
    skill = bound(SKILL, folder)
    skill.osv_url = url
    return await skill.execute(action="audit", folder=str(project))


async def test_vulnerabilities_are_told_with_what_mends_them(project: Path, tmp_path: Path) -> None:
    with served(OSV) as url:
        result = await advised(project, tmp_path, url)
    assert result.output["advisories"] == {"source": "osv", "reached": True, "asked": 5}
    fault = result.output["faults"][0]
    assert (fault["kind"], fault["package"], fault["line"]) == ("vulnerable", "alpha", 11)
    assert fault["message"] == "X-1 (CVE-2026-1); Too open; mended in 1.0.1"


async def test_a_source_that_is_not_reached_is_said_plainly(project: Path, tmp_path: Path) -> None:
    with served(Broken) as url:
        broken = await advised(project, tmp_path, url)
    gone = await advised(project, tmp_path, url)
    for result in (broken, gone):
        assert result.output["advisories"]["reached"] is False
        assert "No advisory source was reached" in result.notes[0]
        assert "No advisory source was reached" in result.summary
        assert "vulnerable" not in result.output["counts"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("package-lock.json", b"{", "not JSON"),
        ("package-lock.json", b"[" * 100_000, "not JSON"),
        ("package-lock.json", b"[]", "not a JSON object"),
        ("uv.lock", b"[[package]\n", r"not TOML \(line 1\)"),
        ("Cargo.lock", b"\xff\xfe", "UTF-8"),
        ("notes.txt", b"hello", "no lock file"),
        ("requirements.txt", b"a==1\n" * 20_001, "more than 20,000"),
    ],
)
async def test_what_is_no_lock_file_is_refused(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SkillFailed, match=told):
        await audit(tmp_path, files=[str(tmp_path / name)])


@pytest.mark.parametrize("text", ['{"nodes": 3}', '{"packages": {"node_modules/x": 3}}', "{}"])
@pytest.mark.parametrize("name", ["package-lock.json", "flake.lock"])
async def test_odd_forms_do_no_harm(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert (await audit(tmp_path, files=[str(tmp_path / name)])).output["packages"] == 0


async def test_formulas_and_markup_in_names_stay_text(tmp_path: Path) -> None:
    rows = {"node_modules/=cmd()": {"version": "1"}, "node_modules/<b>": {"version": ""}}
    file = tmp_path / "package-lock.json"
    file.write_text(json.dumps({"packages": rows}))
    await run(SKILL, tmp_path, action="licences", files=[str(file)])
    assert ",'=cmd()," in (tmp_path / "out/licences.csv").read_text()
    await audit(tmp_path, files=[str(file)])
    assert "\\<b\\>" in (tmp_path / "out/audit.md").read_text()


async def test_there_must_be_something_to_audit(tmp_path: Path) -> None:
    with pytest.raises(SkillFailed, match="no lock file"):
        await audit(tmp_path, folder=str(tmp_path))
    with pytest.raises(SkillFailed, match="either a folder or lock files"):
        await audit(tmp_path)
