"""Memory: a leak that is planted, sizes that llama.cpp itself tells, files that lie."""

import csv
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import gguf
from ai_stack.skill import SkillFailed
from gguf import Shape
from skills import run

NAME = "memory-diagnostics"
MIB = 1 << 20
LEAKED_MIB_PER_S = 24
LEAKING = f"""
import sys, time
kept, begun, done = [], time.monotonic(), 0
print("ready", flush=True)
while True:
    due = int((time.monotonic() - begun) * {LEAKED_MIB_PER_S} * 4)
    while done < due:
        kept.append(bytearray(b"x" * (1 << 18)))
        done += 1
    time.sleep(0.005)
"""
STEADY = "kept = bytearray(b'x' * (1 << 25)); print('ready', flush=True); input()"


@contextmanager
def child(code: str) -> Iterator[int]:
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        try:
            yield running.pid
        finally:
            running.kill()


async def test_a_planted_leaks_slope_is_found(tmp_path: Path):
    with child(LEAKING) as leaking, child(STEADY) as steady:
        found = await run(
            NAME, tmp_path, action="trend", pids=[leaking, steady], seconds=2, every_s=0.1
        )
    rows = {row["pid"]: row for row in found.output["processes"]}
    assert found.output["growing"] == 1
    leak = rows[leaking]
    assert leak["verdict"] == "growing"
    assert leak["slope_mib_per_minute"] == pytest.approx(LEAKED_MIB_PER_S * 60, rel=0.1)
    assert leak["hours_left"] > 0
    assert rows[steady]["verdict"] == "steady"
    assert rows[steady]["hours_left"] is None
    with (tmp_path / "out/memory.csv").open() as file:
        assert sum(int(row["pid"]) == leaking for row in csv.DictReader(file)) == 21


async def test_a_process_that_ends_meanwhile_is_told(tmp_path: Path):
    with child(STEADY) as pid:

        async def calls(ability: str, parameters: Any) -> None:
            if ability == "progress" and parameters["done"] == 2:
                os.kill(pid, 9)

        found = await run(
            NAME, tmp_path, calls, action="trend", pids=[pid], seconds=1, every_s=0.25
        )  # fmt: skip
    assert found.output["processes"][0]["verdict"] == "ended"
    assert found.output["growing"] == 0
    with pytest.raises(SkillFailed, match="no such process"):
        await run(NAME, tmp_path, action="trend", pids=[4_194_303], seconds=1)


async def test_a_large_process_is_listed_with_what_is_its_own(tmp_path: Path):
    with child("kept = bytearray(b'x' * (300 << 20)); print('ready', flush=True); input()") as pid:
        found = await run(NAME, tmp_path, action="processes", top=500)
        grouped = await run(NAME, tmp_path, action="processes", top=500, group=True)
    row = next(row for row in found.output["processes"] if row["pid"] == pid)
    assert row["rss_bytes"] > 300 * MIB
    assert row["own_bytes"] > 300 * MIB
    assert "bytearray" not in row["command"]  # arguments may be secrets
    sizes = [row["rss_bytes"] for row in found.output["processes"]]
    assert sizes == sorted(sizes, reverse=True)
    one = next(row for row in grouped.output["processes"] if row["name"] == row_name(found, pid))
    assert one["rss_bytes"] >= row["rss_bytes"]
    assert 0 < found.output["memory"]["available_bytes"] < found.output["memory"]["total_bytes"]


def row_name(found: Any, pid: int) -> str:
    return next(row["name"] for row in found.output["processes"] if row["pid"] == pid)


@dataclass(frozen=True)
class Case:
    """A model and how it is served."""

    shape: Shape
    context: int
    slots: int = 1
    cache_type: str = "f16"
    ubatch: int = 512
    embeds: bool = False

    def model(self, path: Path) -> Path:
        write = gguf.write_embedder if self.embeds else gguf.write_chat
        return write(path, shape=self.shape)

    def flags(self, model: Path) -> list[str]:
        words = ["-m", str(model), "--port", "0", "-np", str(self.slots), "-t", "1", "-lv", "4"]
        words += ["-c", str(self.context * self.slots), "-ub", str(self.ubatch)]
        words += ["-b", str(max(2048, self.ubatch))]
        words += ["--cache-type-k", self.cache_type, "--cache-type-v", self.cache_type]
        return [*words, "--embeddings"] if self.embeds else words


CASES = {
    "two slots": Case(Shape(layers=6, width=512, heads=8, kv_heads=4, inner=1408), 4096, 2),
    "quantized cache": Case(
        Shape(layers=4, width=768, heads=12, kv_heads=12, inner=2048), 8192, 1, "q8_0"
    ),
    "small batch": Case(
        Shape(layers=8, width=1024, heads=16, kv_heads=2, inner=1024), 2048, 1, "f16", 128
    ),
    "embedder": Case(
        Shape(context=2048, layers=3, width=384, inner=1536), 2048, ubatch=2048, embeds=True
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_an_estimate_is_near_llama_cpps_own(case: Case, tmp_path: Path):
    """Within 15 % of the buffers that its log tells, and of what its process holds."""
    model = case.model(tmp_path / "model.gguf")
    told, rss = served(case.flags(model))
    found = await run(
        NAME, tmp_path, action="estimate", files=[str(model)], context=case.context,
        slots=case.slots, cache_type=case.cache_type, ubatch=case.ubatch,
    )  # fmt: skip
    own = sum(found.output[f"{part}_bytes"] for part in ("weights", "cache", "compute"))
    assert own == pytest.approx(told, rel=0.15)
    assert found.output["cache_bytes"] == pytest.approx(cache_of(case), abs=MIB)
    assert rss < found.output["total_bytes"] * 1.15


def cache_of(case: Case) -> float:
    """By hand: rows of keys and values for every layer and token."""
    if case.embeds:
        return 0
    element = {"f16": 2, "q8_0": 34 / 32}[case.cache_type]
    row = 2 * case.shape.kv_heads * case.shape.width / case.shape.heads * element
    return case.shape.layers * row * case.context * case.slots


def served(flags: list[str]) -> tuple[float, int]:
    """Bytes of a real llama.cpp server's buffers by its log, and what its process holds."""
    command = [sys.executable, "-m", "ai_stack.supervisor.llama_server", *flags]
    told = 0.0
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            for line in server.stderr:
                if found := re.search(r"(?:model|KV|compute|output) buffer size = +([\d.]+)", line):
                    told += float(found[1]) * MIB
                if "model loaded" in line:
                    break
            else:
                raise AssertionError("llama.cpp did not load the model")
            pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
        finally:
            server.kill()
    return told, pages * os.sysconf("SC_PAGE_SIZE")


async def test_what_does_not_fit_is_told_with_what_would(tmp_path: Path):
    shape = Shape(context=1 << 20, layers=32, width=128, heads=1, kv_heads=1)
    model = gguf.write_chat(tmp_path / "long.gguf", shape=shape)
    found = await run(NAME, tmp_path, action="estimate", files=[str(model)], slots=256)
    assert found.output["context"] == 1 << 20
    assert not found.output["fits"]
    largest = {choice["cache_type"]: choice["context"] for choice in found.output["choices"]}
    assert all(c["total_bytes"] <= found.output["available_bytes"] for c in found.output["choices"])
    assert largest.get("q4_0", 0) >= largest.get("f16", 0)


async def test_windows_and_experts_are_reckoned_with(tmp_path: Path):
    plain = {
        "general.architecture": "gemma3",
        "gemma3.block_count": 12,
        "gemma3.embedding_length": 256,
        "gemma3.attention.head_count": 4,
        "gemma3.context_length": 32768,
    }
    windowed = plain | {
        "gemma3.attention.sliding_window": 512,
        "gemma3.attention.sliding_window_pattern": 6,
    }
    sizes = []
    for number, fields in enumerate((plain, windowed)):
        path = tmp_path / f"{number}.gguf"
        gguf.write(path, fields, {})
        found = await run(NAME, tmp_path, action="estimate", files=[str(path)])
        sizes.append(found.output["cache_bytes"])
    whole, small = sizes
    assert whole == 12 * 2 * 256 * 2 * 32768
    assert small == pytest.approx(whole * (2 + 10 * 1024 / 32768) / 12, rel=0.01)


async def test_parts_of_a_split_model_are_added(tmp_path: Path):
    model = gguf.write_chat(tmp_path / "a.gguf")
    one = await run(NAME, tmp_path, action="estimate", files=[str(model)])
    two = await run(NAME, tmp_path, action="estimate", files=[str(model), str(model)])
    assert two.output["weights_bytes"] == 2 * one.output["weights_bytes"]
    fields = {"general.architecture": "llama", "llama.block_count": 1,
              "llama.embedding_length": 64, "split.count": 3}  # fmt: skip
    gguf.write(tmp_path / "b.gguf", fields, {})
    found = await run(NAME, tmp_path, action="estimate", files=[str(tmp_path / "b.gguf")])
    assert "3 parts" in found.notes[0]


HEAD = b"GGUF" + struct.pack("<I", 3)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cut short"),
        (b"PK\x03\x04 and more", "begin with GGUF"),
        (b"GGUF\x01\0\0\0" + bytes(16), "version"),
        (HEAD + struct.pack("<QQ", 1 << 60, 1), "announces"),
        (HEAD + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1 << 62), "announces"),
        (HEAD + struct.pack("<QQQ", 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 4, 1 << 61), "short"),
        (HEAD + struct.pack("<QQQ", 0, 1, 1) + b"k" + struct.pack("<I", 77), "unknown type"),
        (HEAD + struct.pack("<QQ", 0, 0), "no architecture"),
    ],
)
async def test_files_that_lie_are_refused(tmp_path: Path, content: bytes, told: str):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(SkillFailed, match=told):
        await run(NAME, tmp_path, action="estimate", files=[str(path)])


async def test_a_model_of_no_layers_is_refused(tmp_path: Path):
    path = tmp_path / "x.gguf"
    gguf.write(path, {"general.architecture": "llama", "llama.block_count": 0}, {})
    with pytest.raises(SkillFailed, match="no layers"):
        await run(NAME, tmp_path, action="estimate", files=[str(path)])
