"""Settings of the engines and of what they are asked."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from ai_stack.settings.part import Part, named


class Inference(Part):
    """Which engines there are, and how they are asked."""

    engines: SecretStr = Field(
        SecretStr("llama-cpp:"),
        description="Inference engines, separated by spaces: llama-cpp: (supervised), "
        "llama-cpp://host:8080, vllm://host:8000, or the http(s)://host/v1 of any other "
        "OpenAI-compatible server, its key as https://:KEY@host/v1.",
    )
    default_model: str | None = Field(
        None, description="Model of a request that names none; by default the first one served."
    )
    inference_timeout_s: float = Field(
        600, gt=0, description="Longest time of one inference, waiting included."
    )
    inference_queue: int = Field(
        256, ge=0, description="Requests that wait for an engine at most; one more gets 429."
    )
    inference_cache_ttl_s: int = Field(
        3600, ge=0, description="Seconds that an answer is kept; 0 keeps none."
    )
    inference_log_bodies: bool = Field(
        False,
        description="Keep prompts and answers in the log of inferences, the first 64 KiB of "
        "each, as they are: sealed projects too.",
    )
    inference_prices: Path | None = Field(
        None,
        description='JSON file of prices a million tokens: {"model": {"prompt": 1, "completion": '
        "2}}; without it every inference costs 0.",
    )
    semantic_cache: float = Field(
        0,
        ge=0,
        le=1,
        description="Cosine from which a question counts as one that was answered before, 0.97 "
        "for example; 0: only equal questions do. Such an answer may be wrong.",
    )
    session_ttl_s: int = Field(
        86_400, ge=60, description="Seconds that a conversation is kept after its last message."
    )
    llama_cpp_default_model: str | None = Field(
        None,
        validation_alias=named("LLAMA_CPP_DEFAULT_MODEL"),
        description="Model that llama.cpp serves from the start: a hub repository, or the path of "
        "a GGUF file. A repository that is not here is downloaded.",
    )
    llama_cpp_ctx_size: int = Field(
        4096,
        ge=128,
        validation_alias=named("LLAMA_CPP_CTX_SIZE"),
        description="Tokens of context for one request.",
    )
    llama_cpp_web_concurrency: int = Field(
        4,
        ge=1,
        le=256,
        validation_alias=named("LLAMA_CPP_WEB_CONCURRENCY"),
        description="Requests that one llama.cpp server works on at once (slots).",
    )
    llama_cpp_port: int = Field(
        8080, ge=1, le=65535, description="Port of the first supervised llama.cpp server."
    )
    llama_cpp_threads: int = Field(0, ge=0, le=512, description="Its threads; 0: one a core.")
    llama_cpp_gpu_layers: int = Field(
        -1, ge=-1, description="Layers of a model that go to the GPU; -1: as many as fit."
    )
    llama_cpp_devices: str = Field(
        "",
        description="Devices of each server in turn, as llama-server names them: of `CUDA0 CUDA1` "
        "the second gets CUDA1, with `CUDA0,CUDA1` each gets both; empty: all.",
    )
    llama_cpp_cache_type: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = (
        Field("f16", description="Type of the KV cache.")
    )
    llama_cpp_batch: int = Field(2048, ge=32, description="Tokens of a prompt worked on at once.")
    llama_cpp_models: int = Field(
        2, ge=1, le=64, description="Models that are loaded at the same time at most."
    )
    llama_cpp_idle_s: int = Field(
        1800, ge=0, description="Seconds without use after which a model is unloaded; 0: never."
    )
