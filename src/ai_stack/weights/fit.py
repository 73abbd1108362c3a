"""Whether a model fits: the memory that llama.cpp will need for it, and what there is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ai_stack.weights.gguf import Facts

# Bytes of one element of the KV cache, by ggml's block sizes.
ELEMENT_BYTES: Mapping[str, float] = {
    "f32": 4,
    "f16": 2,
    "bf16": 2,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
DEFAULT_CONTEXT = 4096
MICRO_BATCH = 512
PROCESS_BYTES = 64 << 20
CGROUP = Path("/sys/fs/cgroup")


class Weighed(Protocol):
    """What an estimate needs to know of a model."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def facts(self) -> Facts: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory of one llama.cpp server: its weights, its KV cache, its working space."""

    weights_bytes: int
    cache_bytes: int
    overhead_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.overhead_bytes


def estimate(
    model: Weighed, ctx_size: int, slots: int, cache_type: str = "f16", ubatch: int = MICRO_BATCH
) -> Estimate:
    """The memory for `slots` requests of `ctx_size` tokens each; 0: the model's own context."""
    facts = model.facts
    context = ctx_size or facts.context_length or DEFAULT_CONTEXT
    cache = _cache_bytes(facts, context, slots, cache_type)
    return Estimate(model.size_bytes, cache, _overhead_bytes(facts, context * slots, ubatch))


def _cache_bytes(facts: Facts, context: int, slots: int, cache_type: str) -> int:
    """Keys and values of all layers; a layer with a window keeps that and one batch."""
    element = ELEMENT_BYTES.get(cache_type, 2.0)
    row = (facts.key_length + facts.value_length) * element
    heads = sum(facts.kv_heads)
    whole = heads * row * context * slots
    if not facts.window or not facts.windowed or not facts.layers:
        return int(whole)
    kept = min(context, facts.window + MICRO_BATCH) / context
    return int(whole * (1 - facts.windowed / facts.layers * (1 - kept)))


def _overhead_bytes(facts: Facts, cells: int, ubatch: int) -> int:
    """The process and the buffers of one batch: logits, the widest layer, attention.

    Rather too much than too little: servers of a 0.4 GiB and a 1.3 GiB model took 90 and 180 MiB
    where this says 450 and 390, since few logits are asked for.
    """
    wide = max(facts.feed_forward_length, facts.embedding_length)
    logits = ubatch * facts.vocabulary
    scores = ubatch * cells * min(facts.heads, 32) // 8
    return PROCESS_BYTES + 4 * (logits + 4 * ubatch * wide + scores)


def available_bytes() -> int:
    """Memory that a new process may take: the machine's, or less where a cgroup says so."""
    return min([_left_on_machine(), *_left_in_cgroups()])


def _left_on_machine() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


def _left_in_cgroups() -> list[int]:
    """What this process' cgroup and those above it leave, cached files counted as free."""
    folder = _cgroup()
    left = []
    while folder is not None and folder != CGROUP.parent:
        if (found := _left(folder)) is not None:
            left.append(found)
        folder = folder.parent
    return left


def _cgroup() -> Path | None:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    name = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if name is None else CGROUP / name.lstrip("/")


def _left(folder: Path) -> int | None:
    """What one cgroup leaves, None without a limit."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if not limit.isdigit():
        return None
    return max(0, int(limit) - used + int(stat.get("inactive_file", 0)))
