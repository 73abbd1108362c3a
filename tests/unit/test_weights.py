"""Headers of GGUF files, hostile ones too; names, quantizations, memory."""

import os
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gguf
from ai_stack.errors import AIStackError, Conflict, InvalidRequest, ModelNotFound, Unsupported
from ai_stack.hub import Remote
from ai_stack.weights import fit
from ai_stack.weights.choice import choose
from ai_stack.weights.gguf import Facts, read_facts
from ai_stack.weights.names import SHORT, file_name, resolve, short_name
from ai_stack.weights.quantizations import named_in, nearest
from ai_stack.weights.shelf import Model, Shelf

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
FACTS = Facts("llama", layers=32, key_length=128, value_length=128, kv_heads=(8,) * 32, heads=32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf.write_chat(tmp_path_factory.mktemp("gguf") / "tiny-Q8_0.gguf", say="Hello.")


def text(value: bytes) -> bytes:
    return U64.pack(len(value)) + value


def header(
    pairs: bytes = b"", *, tensors: int = 0, count: int | None = None, version: int = 3
) -> bytes:
    """A GGUF header that names an architecture, and `pairs` besides."""
    named = text(b"general.architecture") + U32.pack(8) + text(b"llama")
    more = 1 + (0 if not pairs else 1) if count is None else count
    return b"GGUF" + U32.pack(version) + U64.pack(tensors) + U64.pack(more) + named + pairs


def refused(tmp_path: Path, content: bytes) -> str:
    file = tmp_path / "hostile.gguf"
    file.write_bytes(content)
    with pytest.raises(Unsupported, match=r"hostile\.gguf") as raised:
        read_facts(file)
    return raised.value.message


def test_what_a_model_says_of_itself(tiny: Path) -> None:
    facts = read_facts(tiny)
    assert (facts.architecture, facts.kind, facts.quantization) == ("llama", "generation", "F16")
    assert (facts.context_length, facts.layers, facts.heads) == (4096, 2, 4)
    assert (facts.kv_heads, facts.key_length, facts.value_length) == ((2, 2), 32, 32)
    assert facts.chat_template
    assert facts.vocabulary > 256
    assert facts.parameters * 2 == pytest.approx(tiny.stat().st_size, rel=0.2)


def test_embedders_and_rerankers_are_told_apart(tmp_path: Path) -> None:
    assert read_facts(gguf.write_embedder(tmp_path / "e.gguf")).kind == "embedding"
    assert read_facts(gguf.write_reranker(tmp_path / "r.gguf")).kind == "rerank"


def test_layers_may_differ_and_look_through_a_window(tmp_path: Path) -> None:
    fields = {
        "general.architecture": "gemma",
        "gemma.block_count": 4,
        "gemma.embedding_length": 64,
        "gemma.attention.head_count": [4, 4, 4, 4],
        "gemma.attention.head_count_kv": [2, 0, 2, 0],
        "gemma.attention.sliding_window": 512,
        "gemma.attention.sliding_window_pattern": 2,
    }
    gguf.write(tmp_path / "g.gguf", fields, {})
    facts = read_facts(tmp_path / "g.gguf")
    assert facts.kv_heads == (2, 0, 2, 0)
    assert (facts.window, facts.windowed) == (512, 2)


HOSTILE = {
    "empty": b"",
    "another format": b"PK\x03\x04" + bytes(100),
    "version 1": header(version=1),
    "big-endian": header(version=3 << 24),
    "more pairs than any": header(count=1 << 60),
    "more pairs than there are": header(count=99),
    "more tensors than any": header(tensors=1 << 60),
    "more tensors than there are": header(tensors=1000),
    "a long key": header(U64.pack(1 << 62)),
    "a long string": header(text(b"x") + U32.pack(8) + U64.pack(1 << 62)),
    "an unknown type": header(text(b"x") + U32.pack(77)),
    "a long list": header(text(b"x") + U32.pack(9) + U32.pack(4) + U64.pack(1 << 61)),
    "a long list of strings": header(text(b"x") + U32.pack(9) + U32.pack(8) + U64.pack(1 << 61)),
    "lists in lists": header(
        text(b"x") + U32.pack(9) + (U32.pack(9) + U64.pack(1)) * 5000 + U32.pack(4)
    ),
    "a string that is not there": header(
        text(b"x") + U32.pack(9) + U32.pack(8) + U64.pack(1) + U64.pack(1 << 40)
    ),
    "no architecture": b"GGUF" + U32.pack(3) + U64.pack(0) + U64.pack(0),
    "a tensor of no dimensions": header(tensors=1) + text(b"t") + U32.pack(0) + bytes(64),
    "a tensor of many dimensions": header(tensors=1) + text(b"t") + U32.pack(1 << 31) + bytes(64),
    "a huge tensor": header(tensors=1)
    + text(b"t")
    + U32.pack(2)
    + U64.pack(1 << 63) * 2
    + U32.pack(0)
    + U64.pack(0),
    "an adapter": header(text(b"general.type") + U32.pack(8) + text(b"adapter")),
    "a strange alignment": header(text(b"general.alignment") + U32.pack(8) + text(b"x"), tensors=1)
    + text(b"t")
    + U32.pack(1)
    + U64.pack(1)
    + U32.pack(0)
    + U64.pack(0),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_at_once(content: bytes, tmp_path: Path) -> None:
    began = time.monotonic()
    message = refused(tmp_path, content)
    assert time.monotonic() - began < 1
    assert "\n" not in message


def test_strange_values_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    fields = {
        "general.architecture": "llama",
        "general.name": "a\x1b[2Jname",
        "llama.block_count": 1 << 31,
        "llama.context_length": "long",
        "llama.attention.head_count": [0, 0],
        "llama.embedding_length": True,
    }
    gguf.write(tmp_path / "s.gguf", fields, {})
    facts = read_facts(tmp_path / "s.gguf")
    assert (facts.context_length, facts.heads, facts.embedding_length) == (0, 0, 0)
    assert facts.layers <= 1024
    assert "\x1b" not in facts.name


def test_a_file_that_is_cut_short_says_so(tiny: Path, tmp_path: Path) -> None:
    assert "cut short" in refused(tmp_path, tiny.read_bytes()[:-5000])


def test_a_folder_and_a_pipe_are_no_models(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for name in ("", "pipe.gguf", "absent.gguf"):
        with pytest.raises(Unsupported):
            read_facts(tmp_path / name)


@settings(max_examples=300, deadline=2000, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_damage_anywhere_is_refused_or_harmless(
    data: st.DataObject, tiny: Path, tmp_path: Path
) -> None:
    """Bytes of a real header replaced, and the file cut: never another error, never slow."""
    content = bytearray(tiny.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Mostly within the first keys, where counts and types are.
        at = data.draw(st.integers(0, data.draw(st.sampled_from([64, 2000, len(content) - 9]))))
        wild = st.sampled_from([b"\xff" * 8, bytes(8), U64.pack(1 << 33), U32.pack(9)])
        new = data.draw(st.one_of(st.binary(min_size=1, max_size=8), wild))
        content[at : at + len(new)] = new
    file = tmp_path / "fuzzed.gguf"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        facts = read_facts(file)
    except Unsupported:
        return
    model = replace(shelf_model(tmp_path), facts=facts)
    assert fit.estimate(model, 4096, 4).total_bytes >= 0


def shelf_model(folder: Path) -> Model:
    return Model("m", folder / "m.gguf", 1000, FACTS, "Q4_K_M")


@settings(max_examples=200, deadline=2000, suppress_health_check=[*HealthCheck])
@given(content=st.binary(max_size=400))
def test_any_bytes_after_the_magic(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "any.gguf"
    file.write_bytes(b"GGUF" + U32.pack(3) + content)
    with pytest.raises(Unsupported):
        read_facts(file)


@pytest.mark.parametrize(
    ("file", "quantization"),
    [
        ("qwen2.5-coder-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"),
        ("codellama-13b-instruct.Q4_K_M.gguf", "Q4_K_M"),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Q4_K_M"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "F16"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("model-IQ2_XXS.gguf", "IQ2_XXS"),
        ("model-bf16.gguf", "BF16"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Qwen3-8B.gguf", ""),
        ("q8-notes.gguf", "Q8_0"),
    ],
)
def test_quantizations_are_read_from_names(file: str, quantization: str) -> None:
    assert named_in(file) == quantization


def test_the_nearest_quantization() -> None:
    assert nearest("Q4_K_M", ["Q8_0", "Q4_K_S", "IQ4_XS", "Q2_K"]) == "Q4_K_S"
    assert nearest("Q4_K_M", ["Q8_0", "Q3_K_L", "F16"]) == "Q3_K_L"
    assert nearest("Q4_K_M", ["", "what"]) is None


def test_the_models_of_the_specification_have_a_repository() -> None:
    assert resolve("Qwen/Qwen2.5-Coder-7B-Instruct").repositories == (
        "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF",
    )
    for name in ("phi-3-mini", "CodeLlama-13B", "qwen-14b", "deepseek-coder-v2-lite", *SHORT):
        source = resolve(name)
        assert source.repositories[0].lower().endswith("gguf")
        assert resolve(source.repositories[0]).asked == source.asked
        assert name.lower() in {short_name(n) for n in source.names}


def test_any_repository_may_be_named() -> None:
    assert resolve("org/Some-Model").repositories == ("org/Some-Model", "org/Some-Model-GGUF")
    assert resolve("org/Some-Model-gguf").repositories == ("org/Some-Model-gguf",)
    assert resolve("org/model:q8_0").quantization == "Q8_0"
    assert resolve("org/model", "q4").quantization == "Q4_K_M"
    for wrong in ("", "nothing", "../etc/passwd", "a/b/c", "a/../b", "http://x/y", "a/b?x"):
        with pytest.raises(InvalidRequest, match="phi-3-mini"):
            resolve(wrong)


def test_names_of_files() -> None:
    assert file_name("Qwen2.5-Coder-7B-Instruct-Q4_K_M-00001-of-00003") == (
        "qwen2.5-coder-7b-instruct"
    )
    assert file_name("Qwen3-8B-UD-Q4_K_XL") == "qwen3-8b"
    assert file_name("codellama-13b.Q8_0") == "codellama-13b"
    assert file_name("tiny") == "tiny"
    assert file_name("phi-3") == "phi-3"


def listing(*paths: str) -> list[Remote]:
    return [Remote(f"http://hub/{path}", "0" * 64, 10, path) for path in paths]


def test_the_choice_among_files() -> None:
    found = choose("o/r", listing("m-Q8_0.gguf", "m-Q4_K_M.gguf", "README.md"), None)
    assert found is not None
    assert ([r.path for r in found.files], found.note) == (["m-Q4_K_M.gguf"], "")
    found = choose("o/r", listing("m-Q8_0.gguf", "m-Q3_K_L.gguf"), None)
    assert found is not None
    assert found.quantization == "Q3_K_L"
    assert "Q4_K_M is not there" in found.told
    with pytest.raises(AIStackError, match=r"has no Q6_K; it has Q3_K_L, Q8_0"):
        choose("o/r", listing("m-Q8_0.gguf", "m-Q3_K_L.gguf"), "Q6_K")
    assert choose("o/r", listing("model.safetensors", "mmproj-F16.gguf"), None) is None
    only = choose("o/r", listing("model.gguf"), None)
    assert only is not None


def test_parts_come_together_or_not_at_all() -> None:
    folder = "M-Q4_K_M.gguf/M-Q4_K_M"
    parts = [f"{folder}-{n:05}-of-00003.gguf" for n in (3, 1, 2)]
    found = choose("o/r", listing(*parts, "mmproj-Q8_0.gguf", "mmproj-F16.gguf"), None)
    assert found is not None
    assert [r.path for r in found.files] == sorted(parts)
    assert found.projector is not None
    assert found.projector.path == "mmproj-F16.gguf"
    assert choose("o/r", listing(*parts[:2]), None) is None
    both = choose("o/r", listing(*parts, "M-Q4_K_M.gguf"), None)
    assert both is not None
    assert len(both.files) == 1


def test_names_from_a_hub_do_not_leave_the_folder() -> None:
    hostile = ("../../x-Q4_K_M.gguf", "..", "a/..gguf", ".hidden.gguf", "x\n.gguf", "x\0.gguf")
    found = choose("o/r", listing(*hostile), None)
    assert found is not None
    assert [r.name for r in found.files] == ["x-Q4_K_M.gguf"]


def test_the_memory_that_a_model_needs(tmp_path: Path) -> None:
    model = shelf_model(tmp_path)
    found = fit.estimate(model, 4096, 4, "f16")
    assert found.weights_bytes == 1000
    assert found.cache_bytes == 32 * 8 * 256 * 2 * 4096 * 4  # as llama.cpp says: 2 GiB
    assert fit.estimate(model, 4096, 4, "q8_0").cache_bytes == found.cache_bytes * 34 // 64
    windowed = replace(model, facts=replace(FACTS, window=512, windowed=16))
    assert fit.estimate(windowed, 4096, 4).cache_bytes == found.cache_bytes * 10 // 16
    assert fit.estimate(replace(model, facts=Facts("x")), 0, 1).cache_bytes == 0
    assert 0 < fit.available_bytes() < 1 << 50


def test_a_cgroup_that_is_nearly_full_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 50\n")
    assert fit._left(tmp_path) == 150
    (tmp_path / "memory.max").write_text("max\n")
    assert fit._left(tmp_path) is None


def test_what_lies_on_a_shelf_by_hand(tiny: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert shelf.all() == []
    (tmp_path / "Some-Model-Q8_0.gguf").write_bytes(tiny.read_bytes())
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    (tmp_path / "x-00001-of-00002.gguf").write_bytes(tiny.read_bytes())
    model = shelf.find("some-model")
    assert model is not None
    assert [each.id for each in shelf.all()] == ["some-model"]
    assert (model.quantization, model.repository, model.layers) == ("Q8_0", None, 2)
    for name in ("Some-Model", "some-model-q8_0", "SOME-MODEL:Q8_0", str(model.file)):
        assert shelf.find(name) == model
    (tmp_path / "Some-Model-Q4_0.gguf").write_bytes(tiny.read_bytes())
    os.utime(tmp_path / "Some-Model-Q4_0.gguf", (2e9, 2e9))
    assert {each.id for each in shelf.all()} == {"some-model", "some-model-q4_0"}
    assert shelf.remove("some-model-q4_0").quantization == "Q4_0"
    assert shelf.find("nothing") is None
    with pytest.raises(ModelNotFound, match="ai-stack models pull"):
        shelf.get("nothing")


def test_files_elsewhere_are_served_and_not_removed(tiny: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    model = shelf.find(str(tiny))
    assert model is not None
    assert (model.id, model.file) == ("tiny", tiny)
    assert shelf.find(str(tmp_path / "absent.gguf")) is None
    with pytest.raises(Conflict, match="yourself"):
        shelf.remove(str(tiny))
    assert tiny.exists()
