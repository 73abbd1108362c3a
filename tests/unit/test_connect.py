"""Clients' files keep what they say, to the byte, and say where the gateway is."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml as pyyaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_stack.cli import main
from ai_stack.cli.clients import NAMES, Places, Target, files, find_client, gateway_of, jsonc, yaml
from clients import LENGTH, Played, gateway

TARGET = Target("http://127.0.0.1:8091", "small-chat", LENGTH, "small-embedder")
FILED = [name for name in NAMES if name != "openai"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in [v for v in os.environ if v.startswith(("AI_STACK_", "XDG_", "LLM_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with gateway() as found:
        yield found


@pytest.fixture
def connect(
    home: Path, played: Played, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str, url: str = played.url) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["connect", *arguments, *(("--url", url) if url else ())])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return run


def places(home: Path) -> Places:
    return Places(home, home / ".config", home / ".config/io.datasette.llm")


# The formats


def test_json_keeps_comments_order_and_layout() -> None:
    text = (
        '// mine\n{\n    "b": 1, // first\n    /* servers */\n'
        '    "mcpServers": {\n        "other": {"command": "x",},\n    },\n'
        '    "a": [1,\n2] // last\n}\n'
    )
    found = jsonc.merge(text, {"mcpServers": {"ai-stack": {"url": "u"}}, "c": True})
    for line in text.splitlines():
        assert line.removesuffix(" // last") in found
    assert jsonc.load(found) == {
        "b": 1,
        "mcpServers": {"other": {"command": "x"}, "ai-stack": {"url": "u"}},
        "a": [1, 2],
        "c": True,
    }
    assert '        "ai-stack": {\n            "url": "u"\n        }' in found
    assert jsonc.merge(found, {"c": True}) == found


def test_json_in_one_line_and_with_other_line_ends_stays_so() -> None:
    assert jsonc.merge('{"a": 1}', {"b": 2}) == '{"a": 1, "b": 2}'
    assert jsonc.merge("", {"b": 2}) == '{\n  "b": 2\n}\n'
    assert (
        jsonc.merge('{\r\n\t"a": 1\r\n}\r\n', {"b": {"c": 2}}).replace("\r\n", "").count("\n") == 0
    )
    assert jsonc.merge('{"a": {"x": 1}}', {"a": {"x": 2, "y": 3}}) == '{"a": {"x": 2, "y": 3}}'


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1,2",
        '{"a" 1}',
        "{a: 1}",
        '{"a": 1} x',
        '{"a": nope}',
        '{"a": "\n"}',
        "/* {}",
        "[" * 500,
    ],
)
def test_json_that_is_none_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(files.Malformed, match=r"line \d+ is not JSON"):
        jsonc.merge(text, {"x": 1})
    with pytest.raises(files.Malformed, match="not an object"):
        jsonc.merge('{"mcpServers": []}', {"mcpServers": {}}, ("mcpServers",))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON, max_size=4)


def merged(old: object, new: object) -> object:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{k: merged(old.get(k), v) for k, v in new.items()}}
    return new


@settings(max_examples=40, deadline=None)
@given(OBJECTS, OBJECTS, st.sampled_from([None, 1, 4, "\t"]))
def test_any_json_merges_as_its_values_do(old: dict, new: dict, indent: int | str | None) -> None:
    text = jsonc.merge(json.dumps(old, indent=indent), new)
    assert json.loads(text) == merged(old, new)
    assert jsonc.merge(text, new) == text


CONTINUE = """\
# my assistant
name: Mine # keep
version: 1.0.0
schema: v1

models:
    # the cloud
    - name: GPT
      provider: openai   # paid
      model: gpt-4o
      chatOptions:
          baseSystemMessage: |
              Be brief.

              Always.

# after the models
rules: [ "a", 'b' ]
"""


def test_yaml_keeps_comments_order_and_layout() -> None:
    entry = {"provider": "openai", "defaultCompletionOptions": {"contextLength": 1}}
    found = yaml.upsert(CONTINUE, ("models",), ("name", "AI Stack"), entry, {"roles": ["chat"]})
    old = CONTINUE.splitlines()
    assert [line for line in found.splitlines() if line in old] == old
    assert "    - name: AI Stack\n      provider: openai\n" in found
    again = yaml.upsert(found, ("models",), ("name", "AI Stack"), {"provider": "x"}, {"roles": []})
    assert again == found.replace(
        "name: AI Stack\n      provider: openai", "name: AI Stack\n      provider: x"
    )
    assert yaml.upsert(again, ("models",), ("name", "AI Stack"), {"provider": "x"}, {}) == again


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a: 1\nb: x y\n"),
        ("# only this\n", "# only this\na: 1\nb: x y\n"),
        ("a: 2 # two\nc: 3", "a: 1 # two\nc: 3\nb: x y\n"),
        ("a:\nc: 3\n", "a: 1\nc: 3\nb: x y\n"),
        ("{a: 2, c: 3}\n", '{a: 1, c: 3, "b": "x y"}\n'),
        ("{}\n", '{"a": 1, "b": "x y"}\n'),
        ("'a': |\n  long\n  text\nc: 3\n", "'a': 1\nc: 3\nb: x y\n"),
        ("a:\n- 1\n- 2\n# note\nc: 3\n", None),
        ("---\nc: 3\n...\n", None),
        ("x: &n {y: 1}\nz: *n\n", "x: &n {y: 1}\nz: *n\na: 1\nb: x y\n"),
    ],
)
def test_yaml_of_any_style_takes_keys(text: str, expected: str | None) -> None:
    wanted = {"a": 1, "b": "x y"}
    try:
        found = yaml.merge(text, wanted)
    except files.Malformed:
        assert expected is None
        return
    assert expected is None or found == expected
    assert pyyaml.safe_load(found) == {**(pyyaml.safe_load(text) or {}), **wanted}


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\ta: 1", "a: 1\n---\nb: 2\n", "- x\n", "a: !own 1\n"]
)
def test_yaml_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(files.Malformed):
        yaml.merge(text, {"z": 1})


@settings(max_examples=40, deadline=None)
@given(OBJECTS, OBJECTS, st.sampled_from([None, True, False]))
def test_any_yaml_merges_as_its_values_do_or_is_refused(
    old: dict, new: dict, style: bool | None
) -> None:
    new = {key: value for key, value in new.items() if value not in (None, {})}
    text = pyyaml.safe_dump(old, default_flow_style=style)
    try:
        found = yaml.merge(text, new)
    except files.Malformed:
        return
    assert pyyaml.safe_load(found) == merged(old, new)


# The clients


@pytest.mark.parametrize("name", FILED)
def test_twice_is_once_and_what_was_written_is_found_again(name: str, home: Path) -> None:
    client, aims = find_client(name), []
    for edit in client.edits(TARGET, places(home)):
        once = edit.change("")
        assert edit.change(once) == once
        aims += client.aims(edit.path, once)
    assert aims
    assert {gateway_of(aim.url) for aim in aims} == {TARGET.url}
    assert {aim.model for aim in aims} <= {None, TARGET.model, TARGET.embedding_model}


@pytest.mark.parametrize("name", FILED)
def test_another_model_takes_the_place_of_the_first(name: str, home: Path) -> None:
    client = find_client(name)
    other = Target("http://127.0.0.1:9000", "other-chat", 99, "other-embedder")
    for before, after in zip(
        *(client.edits(t, places(home)) for t in (TARGET, other)), strict=True
    ):
        text = after.change(before.change(""))
        for aim in client.aims(after.path, text):
            assert gateway_of(aim.url) == other.url
            assert aim.model in (None, "other-chat", "other-embedder")


def test_aider_knows_the_length_and_keeps_a_key(home: Path) -> None:
    conf, metadata = find_client("aider").edits(TARGET, places(home))
    text = conf.change("# aider\nopenai-api-key: mine\nmodel: gpt-4o\n")
    assert text.startswith("# aider\nopenai-api-key: mine\nmodel: openai/small-chat\n")
    found = json.loads(metadata.change(""))["openai/small-chat"]
    assert (found["max_input_tokens"], found["litellm_provider"]) == (LENGTH, "openai")


def test_shell_gpt_keeps_lines_and_a_key(home: Path) -> None:
    (edit,) = find_client("sgpt").edits(TARGET, places(home))
    text = edit.change("# mine\nOPENAI_API_KEY=mine\nAPI_BASE_URL=default\nDEFAULT_COLOR=red\n")
    assert text.startswith(
        "# mine\nOPENAI_API_KEY=mine\nAPI_BASE_URL=http://127.0.0.1:8091/v1\nDEFAULT_COLOR=red\n"
    )
    with pytest.raises(files.Malformed, match="line 1"):
        edit.change("no pair\n")


# The verb


@pytest.mark.parametrize("name", FILED)
def test_a_client_is_connected_once(name: str, connect, home: Path, played: Played) -> None:
    status, said = connect(name)
    assert (status, "wrote" in said) == (0, True)
    written = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    status, said = connect(name)
    assert "wrote" not in said
    assert connect(name, "--model", "other-chat")[0] == 0
    names = {p for p in home.rglob("*") if p.is_file()}
    assert names == set(written), "what was not there before has no copy from before"
    assert connect(name)[0] == 0
    noted = json.loads((home / ".config/nixos-ai-stack/ai-optimizer.json").read_text())
    assert noted["address"] == "http://127.0.0.1:8091"
    row = noted["clients"][name]
    assert (row["model"], row["url"]) == ("small-chat", played.url)


def test_what_was_there_is_kept_beside_once(connect, home: Path) -> None:
    file = home / ".aider.conf.yml"
    file.write_text("model: a\n")
    file.chmod(0o640)
    assert connect("aider")[0] == 0
    file.write_text(file.read_text() + "dark-mode: true\n")
    assert connect("aider", "--model", "other-chat")[0] == 0
    assert (home / ".aider.conf.yml.before-ai-stack").read_text() == "model: a\n"
    assert "dark-mode: true" in file.read_text()
    assert "openai/other-chat" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_malformed_file_is_refused_and_nothing_is_written(connect, home: Path) -> None:
    (home / ".aider.model.metadata.json").write_text('{"a": ')
    status, said = connect("aider")
    assert status == 1
    assert "line 1 is not JSON. Nothing was changed." in said
    assert {p.name for p in home.rglob("*") if p.is_file()} == {".aider.model.metadata.json"}


def test_a_link_stays_a_link_and_one_that_is_managed_is_told(connect, home: Path) -> None:
    real = home / "dotfiles" / "aider.yml"
    real.parent.mkdir()
    real.write_text("model: a\n")
    (home / ".aider.conf.yml").symlink_to(real)
    assert connect("aider")[0] == 0
    assert (home / ".aider.conf.yml").is_symlink()
    assert "openai/small-chat" in real.read_text()


def test_printing_writes_nothing(connect, home: Path) -> None:
    status, said = connect("continue", "--print")
    assert (status, "apiBase" in said, list(home.iterdir())) == (0, True, [])
    status, said = connect("openai")
    lines = [line for line in said.splitlines() if line]
    assert status == 0
    assert all(line.startswith("export OPENAI_") for line in lines)


def test_projects_are_for_those_that_have_them(connect, home: Path) -> None:
    folder = home / "work"
    folder.mkdir()
    assert connect("cursor", "--project-dir", str(folder))[0] == 0
    assert (folder / ".cursor/mcp.json").exists()
    assert connect("llm", "--project-dir", str(folder))[0] == 2
    assert connect("emacs")[0] == 2


def test_the_model_must_be_served(connect) -> None:
    status, said = connect("llm", "--model", "nobody")
    assert (status, "small-chat, other-chat" in said) == (1, True)
    dead = "http://127.0.0.1:9"
    assert connect("llm", url=dead)[0] == 1
    status, said = connect("llm", "--model", "later", url=dead)
    assert (status, "not known" in said) == (0, True)


def test_proofs_are_made_and_can_fail(connect, played: Played) -> None:
    status, said = connect("continue", "--verify")
    assert (status, said.count(" ok ")) == (0, 4)
    played.broken.add("/v1/embeddings")
    try:
        status, said = connect("continue", "--verify")
    finally:
        played.broken.clear()
    assert (status, said.count(" ok ")) == (1, 3)
    assert "embeddings failed" in said
    assert "planted failure" in said
    played.calls_tools = False
    try:
        status, said = connect("continue", "--verify")
    finally:
        played.calls_tools = True
    assert (status, "the model called no function" in said) == (1, True)


def test_other_keys_of_ai_optimizer_stay(connect, home: Path) -> None:
    file = home / ".config/nixos-ai-stack/ai-optimizer.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"theirs": [1], "clients": {"emacs": {"x": 1}}}')
    assert connect("sgpt")[0] == 0
    found = json.loads(file.read_text())
    assert (found["theirs"], found["clients"]["emacs"]) == ([1], {"x": 1})
    assert set(found["clients"]) == {"emacs", "sgpt"}
