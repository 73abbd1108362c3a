"""Generated files parse whatever is put into them; planted errors are found at their lines."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_nix
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tree_sitter import Language, Node, Parser

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed, SkillResult
from skills import bound, run

SKILL = "nixos-deployment"
CHECKERS = ["tree-sitter", *(["nix"] if shutil.which("nix-instantiate") else [])]
HOSTILE = "\"; } ${builtins.readFile /etc/passwd} $${x} \\${y} \\\\\" ''${z}''\n\t\r # /* ü"
ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parsed(text: str) -> Node:
    root = Parser(Language(tree_sitter_nix.language())).parse(text.encode()).root_node
    assert not root.has_error, text
    return root


def strings(node: Node) -> list[str]:
    """The texts that a tree's strings stand for; fails where one holds code."""
    if node.type == "string_expression":
        assert not [c for c in node.named_children if c.type == "interpolation"]
        body = (node.text or b"").decode()[1:-1]
        return [re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), body, flags=re.DOTALL)]
    return [text for child in node.children for text in strings(child)]


async def generated(folder: Path, /, **arguments: Any) -> dict[str, str]:
    result = await run(SKILL, folder, action="generate_config", **arguments)
    return dict(result.output["files"])


async def valid(folder: Path, text: str, checker: str) -> SkillResult:
    return await run(SKILL, folder, action="validate", text=text, checker=checker)


async def test_packages_alone_are_a_whole_configuration(tmp_path: Path) -> None:
    skill = bound(SKILL, tmp_path)
    result = await skill.execute(action="generate_config", packages=["vim", "git"])
    text = (tmp_path / "out/configuration.nix").read_text()
    assert "environment.systemPackages = [ pkgs.vim pkgs.git ];" in text
    assert text == result.output["files"]["configuration.nix"]
    parsed(text)


@pytest.mark.parametrize("checker", CHECKERS)
async def test_everything_at_once_parses(tmp_path: Path, checker: str) -> None:
    files = await generated(
        tmp_path,
        packages=["vim", "python3Packages.requests", "with", "odd name"],
        services={"nginx": {"virtualHosts": {"a.org": {"root": "/srv"}}}, "xserver.libinput": {}},
        users=[
            {"name": "ada", "description": HOSTILE, "groups": ["wheel"], "shell": "zsh",
             "keys": ["ssh-ed25519 AAAA ada@home"], "packages": ["htop"]},
        ],
        home_manager={
            "ada": {
                "packages": ["ripgrep"],
                "programs": {"git": {"userName": HOSTILE}},
                "files": {".config/x y": HOSTILE},
                "variables": {"EDITOR": "vim"},
                "options": {"services.ssh-agent.enable": True},
            }
        },
        options={
            "networking.firewall.allowedTCPPorts": [80, 443],
            "boot.kernel.sysctl": {"vm.swappiness": 10, "a.b": -1},
            'environment.etc."my.conf".text': HOSTILE,
            "services.x": {"numbers": [-1, 0.5, 1e-7, 1e300], "none": None, "empty": {}, "l": []},
            "users.defaultUserShell": {"pkgs": "zsh"},
        },
        flake=True,
        hostname="shop",
        unfree=True,
    )  # fmt: skip
    for text in files.values():
        result = await valid(tmp_path, text, checker)
        assert result.output["errors"] == []
    configuration = files["configuration.nix"]
    assert "defaultUserShell = pkgs.zsh;" in re.sub(r"\s+", " ", configuration)
    assert 'pkgs."with" pkgs."odd name"' in re.sub(r"\s+", " ", configuration)
    assert "[ (-1) 0.5 1.0e-07 1.0e+300 ]" in configuration
    assert "programs.zsh.enable = true;" in configuration
    assert HOSTILE in strings(parsed(configuration)) and HOSTILE in strings(
        parsed(files["home-ada.nix"])
    )
    assert 'nixosConfigurations."shop"' in files["flake.nix"]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.text(st.sampled_from("${}\\\"'\n;x \té#"), max_size=20),
    key=st.text(st.sampled_from("${}\\'\n;x -é"), min_size=1, max_size=8),
)
async def test_no_text_is_ever_code(tmp_path: Path, text: str, key: str) -> None:
    files = await generated(tmp_path, options={"environment.variables": {key: text, "b": "c"}})
    found = strings(parsed(files["configuration.nix"]))
    assert text in found
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_'-]*", key) or key in found


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{ ... }:\n{\n  a.b = 1\n  c = 2;\n}\n", 4),
        ("{\n  a = [ 1 2 ];\n  b = ;\n}\n", 3),
        ("{\n  a = 1;\n}}\n", 3),
        ("{\n  a == 1;\n}\n", 2),
        ("{\n  a = 1;\n  b.c = 2;\n  a = 3;\n}\n", 4),
        ("{\n  b.c = 2;\n  b = {\n    d = 1;\n    d = 2;\n  };\n}\n", 5),
    ],
)
async def test_a_planted_error_is_found_at_its_line(
    tmp_path: Path, checker: str, text: str, line: int
) -> None:
    result = await valid(tmp_path, text, checker)
    assert result.output["errors"][0]["line"] == line
    assert result.output["valid"] is False and result.output["checked_by"] == checker


@pytest.mark.parametrize("checker", CHECKERS)
async def test_what_is_right_has_no_error(tmp_path: Path, checker: str) -> None:
    text = (
        "{ config, pkgs, ... }: let x = ''a ${toString 1}''; in rec {\n"
        "  imports = [ ./a.nix <nixpkgs/x> ];\n  a.b = 1; a.c = 2; d = { e = x; }; d.f = 3;\n"
        "  g = with pkgs; [ vim ]; inherit (pkgs) git; h = if true then 1 else 2;\n}\n"
    )
    assert (await valid(tmp_path, text, checker)).output["valid"] is True


async def test_several_files_are_told_apart(tmp_path: Path) -> None:
    for name, text in {"good.nix": "{ }", "bad.nix": "{\n a = ;\n}"}.items():
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in ("good.nix", "bad.nix")]
    result = await run(SKILL, tmp_path, action="validate", files=files)
    assert [e["place"] for e in result.output["errors"]] == ["bad.nix:2"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"options": {"a": 1, "a.b": 2}}, "a is set twice"),
        ({"options": {"networking.hostName": "x"}}, "networking.hostName is set twice"),
        ({"services": ["ssh"], "options": {"services.ssh.enable": False}}, "set twice"),
        ({"options": {"a..b": 1}}, "no path"),
        ({"options": {"a": "\0"}}, "zero byte"),
        ({"options": {"a": 2**70}}, "64 bits"),
        ({"packages": ["a..b"]}, "no path"),
        ({"users": [{"name": "a"}, {"name": "a"}]}, "named twice"),
        ({"home_manager": {"eve": {}}}, "none of `users`"),
        (
            {"users": [{"name": "a"}], "home_manager": {"a": {"files": {"../x": ""}}}},
            "does not lie below",
        ),
    ],
)
async def test_what_cannot_be_is_refused(
    tmp_path: Path, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(SkillFailed, match=told):
        await generated(tmp_path, **arguments)
    assert not [*(tmp_path / "out").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"hostname": 'a"; }'}, "hostname"),
        ({"users": [{"name": "Ada; x"}]}, "users.0.name"),
        ({"state_version": "now"}, "state_version"),
        ({"users": [{"name": "a", "password": "x"}]}, "users.0.password"),
    ],
)
async def test_wrong_arguments_are_named(
    tmp_path: Path, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await generated(tmp_path, **arguments)
    assert field in (refused.value.fields or {})


async def test_depth_is_bounded(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(SkillFailed, match="nested deeper"):
        await generated(tmp_path, options={"a": deep})
    result = await valid(tmp_path, "[" * 5000, "tree-sitter")
    assert result.output["valid"] is False


async def test_the_same_options_written_otherwise_are_no_change(tmp_path: Path) -> None:
    result = await run(
        SKILL, tmp_path, action="explain_diff",
        before_text="{ pkgs, ... }: { a.b.c = [ 1  2 ]; # why\n a.d = pkgs.x; }",
        after_text="{ pkgs, ... }:\n{\n  a = { b = { c = [ 1 2 ]; }; d = pkgs.x; };\n}\n",
    )  # fmt: skip
    assert result.output["total"] == 0


async def test_a_diff_needs_two_sides_that_parse(tmp_path: Path) -> None:
    with pytest.raises(SkillFailed, match="after, line 2"):
        await run(
            SKILL, tmp_path, action="explain_diff", before_text="{ }", after_text="{\n a = ;}"
        )
    with pytest.raises(SkillFailed, match="`after`"):
        await run(SKILL, tmp_path, action="explain_diff", before_text="{ }")
    (tmp_path / "empty.nix").touch()
    with pytest.raises(SkillFailed, match="is empty"):
        await run(SKILL, tmp_path, action="validate", files=[str(tmp_path / "empty.nix")])
