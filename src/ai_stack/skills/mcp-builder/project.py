"""The project of a server: the scaffold's modules, the tools as data, what surrounds them."""

import json
import keyword
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_stack.skill import SkillFailed

from .tools import Tool

SCAFFOLD = Path(__file__).parent / "scaffold"
STAMP = (1980, 1, 1, 0, 0, 0)
BEARER = {"in": "header", "name": "Authorization", "prefix": "Bearer "}


@dataclass(frozen=True, slots=True)
class Server:
    """What a server is to be."""

    name: str
    version: str
    instructions: str
    url: str
    auth: Mapping[str, str]
    tools: Sequence[Tool]

    @property
    def package(self) -> str:
        """The name of its Python package."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_") + "_mcp"

    @property
    def variable(self) -> str:
        """What its environment variables begin with."""
        return re.sub(r"[^A-Z0-9]+", "_", self.name.upper()).strip("_")


def write(server: Server, folder: Path) -> Path:
    """The project below a folder; its own folder."""
    root = folder / server.package.replace("_", "-")
    package = root / "src" / server.package
    shutil.copytree(SCAFFOLD, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "tools.json").write_text(described(server), "utf-8")
    (package / "handlers.py").write_text("".join(_handlers(server.tools)), "utf-8")
    (root / "pyproject.toml").write_text(_metadata(server), "utf-8")
    (root / "README.md").write_text(_readme(server), "utf-8")
    (root / "tests").mkdir()
    (root / "tests/test_server.py").write_text(_test(server), "utf-8")
    return root


def described(server: Server) -> str:
    """tools.json, all that the scaffold's modules know of this server."""
    about = {
        "server": {
            "name": server.name,
            "version": server.version,
            "instructions": server.instructions,
        },
        "upstream": {
            "url": server.url,
            "url_variable": f"{server.variable}_URL",
            "token_variable": f"{server.variable}_TOKEN",
            "auth": dict(server.auth),
        },
        "tools": [tool.to_json() for tool in server.tools],
    }
    return json.dumps(about, indent=1, ensure_ascii=True) + "\n"


def pack(root: Path, archive: Path) -> list[str]:
    """The project as a zip archive below its own name; the paths in it."""
    names = []
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            if "__pycache__" in path.parts:
                continue
            name = path.relative_to(root).as_posix()
            opened.writestr(zipfile.ZipInfo(f"{root.name}/{name}", STAMP), path.read_bytes())
            names.append(name)
    return names


def package_of(folder: Path) -> tuple[Path, str]:
    """The `src` folder of a project and the one package in it that can be run; SkillFailed."""
    name = "src/*/__main__.py"
    found = sorted(folder.glob(name)) or sorted(folder.glob(f"*/{name}"))
    if len(found) != 1:
        raise SkillFailed(
            "The folder must have one package that can be run, as src/NAME/__main__.py."
        )
    return found[0].parent.parent, found[0].parent.name


def _handlers(tools: Sequence[Tool]) -> Iterator[str]:
    """handlers.py: a function for each tool that no request does."""
    own = [tool for tool in tools if tool.sent is None]
    yield '"""What the tools do that are no requests: write it here."""\n\n'
    yield "from collections.abc import Awaitable, Callable\nfrom typing import Any\n\n"
    functions = _functions(own)
    for tool, function in zip(own, functions, strict=True):
        yield f"\nasync def {function}(arguments: dict[str, Any]) -> Any:\n"
        yield f'    """{_escaped(tool.description)}"""\n    return {{"given": arguments}}\n\n'
    yield "\nHANDLERS: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {\n"
    for tool, function in zip(own, functions, strict=True):
        yield f"    {json.dumps(tool.name)}: {function},\n"
    yield "}\n"


def _functions(tools: Sequence[Tool]) -> list[str]:
    """A function's name for each tool."""
    found: list[str] = []
    for tool in tools:
        plain = re.sub(r"\W+", "_", tool.name.lower(), flags=re.ASCII).strip("_") or "tool"
        name = plain if plain.isidentifier() and not keyword.iskeyword(plain) else f"do_{plain}"
        while name in found or name == "handlers":
            name += "_"
        found.append(name)
    return found


def _escaped(text: str) -> str:
    """A text within a docstring, on one line."""
    line = " ".join(text.split())[:300]
    return json.dumps(line, ensure_ascii=True)[1:-1]


def _metadata(server: Server) -> str:
    name = server.package.replace("_", "-")
    return (
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
        f'[project]\nname = "{name}"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
        'dependencies = ["httpx>=0.28", "jsonschema>=4.20", "mcp>=2.3,<3", "uvicorn>=0.31"]\n\n'
        f'[project.scripts]\n{name} = "{server.package}.__main__:main"\n\n'
        "[dependency-groups]\n"
        'dev = ["pytest>=8", "pytest-asyncio>=1"]\n\n'
        '[tool.pytest.ini_options]\nasyncio_mode = "auto"\npythonpath = ["src"]\n\n'
        f'[tool.hatch.build.targets.wheel]\npackages = ["src/{server.package}"]\n'
    )


def _readme(server: Server) -> str:
    rows = "".join(f"| `{t.name}` | {_cell(t.description)} |\n" for t in server.tools)
    entry = json.dumps({"command": server.package.replace("_", "-"), "args": []})
    return (
        f"# {server.package.replace('_', '-')}\n\nA server of the Model Context Protocol.\n\n"
        f"```sh\npip install .\n{server.package.replace('_', '-')}  # over stdio\n"
        f"{server.package.replace('_', '-')} --http 8000  # at http://127.0.0.1:8000/mcp\n```\n\n"
        f"An assistant's configuration takes `{entry}`.\n\n"
        f"`{server.variable}_URL` says where its API is, `{server.variable}_TOKEN` is what it\n"
        "identifies itself with.\n\n"
        f"| tool | what it does |\n|---|---|\n{rows}\n"
        f"What tools do that are no requests stands in `src/{server.package}/handlers.py`.\n"
    )


def _cell(text: str) -> str:
    line = text.strip().split("\n", 1)[0][:200]
    return "".join(f"\\{c}" if c in "|<>[]*_`\\" else c for c in line)


def _test(server: Server) -> str:
    return (
        '"""The server offers its tools."""\n\n'
        "from mcp import Client\n\n"
        f"from {server.package}.server import TOOLS, create_server\n\n\n"
        "async def test_it_lists_its_tools() -> None:\n"
        "    async with Client(create_server()) as client:\n"
        "        found = await client.list_tools()\n"
        "    assert [tool.name for tool in found.tools] == [tool.name for tool in TOOLS]\n"
    )
