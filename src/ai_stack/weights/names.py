"""What a model may be called: a known name, a repository of a hub, with a quantization or not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ai_stack.errors import InvalidRequest
from ai_stack.weights.quantizations import named_in, normal

# The specification's models, each with the repository that holds it as GGUF.
KNOWN: Mapping[str, str] = {
    "Qwen/Qwen2.5-Coder-7B-Instruct": "Qwen/Qwen2.5-Coder-7B-Instruct-GGUF",
    "Qwen/Qwen2.5-Coder-14B-Instruct": "Qwen/Qwen2.5-Coder-14B-Instruct-GGUF",
    "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct": "bartowski/DeepSeek-Coder-V2-Lite-Instruct-GGUF",
    "deepseek-ai/DeepSeek-Coder-V2-Instruct": "bartowski/DeepSeek-Coder-V2-Instruct-GGUF",
    "microsoft/Phi-3-mini-4k-instruct": "microsoft/Phi-3-mini-4k-instruct-gguf",
    "codellama/CodeLlama-13b-Instruct-hf": "TheBloke/CodeLlama-13B-Instruct-GGUF",
}
SHORT: Mapping[str, str] = {
    "qwen": "Qwen/Qwen2.5-Coder-7B-Instruct",
    "qwen-7b": "Qwen/Qwen2.5-Coder-7B-Instruct",
    "qwen-14b": "Qwen/Qwen2.5-Coder-14B-Instruct",
    "qwen2.5-coder": "Qwen/Qwen2.5-Coder-7B-Instruct",
    "qwen2.5-coder-7b": "Qwen/Qwen2.5-Coder-7B-Instruct",
    "qwen2.5-coder-14b": "Qwen/Qwen2.5-Coder-14B-Instruct",
    "deepseek-coder-v2": "deepseek-ai/DeepSeek-Coder-V2-Instruct",
    "deepseek-coder-v2-full": "deepseek-ai/DeepSeek-Coder-V2-Instruct",
    "deepseek-coder-v2-lite": "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct",
    "phi-3-mini": "microsoft/Phi-3-mini-4k-instruct",
    "codellama-13b": "codellama/CodeLlama-13b-Instruct-hf",
}

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_LAST = re.compile(r"(.+?)(?:[-_.]UD)?[-_.]((?:[a-z]{1,5}\d|mxfp4)[a-z0-9_]*)$", re.IGNORECASE)
_QUANTIZED = re.compile(r"[-_.]gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: the first of `repositories` that is there and has GGUF files.

    `asked` is the name that it was asked for by; without a `quantization` the default is chosen,
    else what is nearest to it.
    """

    asked: str
    repositories: tuple[str, ...]
    quantization: str | None = None
    revision: str = "main"

    @property
    def names(self) -> tuple[str, ...]:
        """What this model may be called besides its id."""
        known = tuple(short for short, name in SHORT.items() if name == self.asked)
        return (self.asked, *self.repositories[:1], *known)


def resolve(name: str, quantization: str | None = None) -> Source:
    """The source of `phi-3-mini`, `owner/repository` or `owner/repository:Q8_0`.

    Raises InvalidRequest, which lists the known names, for what is none of these.
    """
    plain, _, chosen = name.strip().partition(":")
    wanted = quantization or chosen
    asked = _official(plain)
    if asked is None and not _REPOSITORY.fullmatch(plain):
        raise InvalidRequest(
            f"{name} is no model that is known by name. Name a hub's repository as "
            f"owner/repository, the path of a .gguf file, or one of {', '.join(SHORT)}."
        )
    repositories = (KNOWN[asked],) if asked else _candidates(plain)
    return Source(asked or plain, repositories, normal(wanted) if wanted else None)


def short_name(repository: str) -> str:
    """What clients call a repository's model: `qwen2.5-coder-7b-instruct`."""
    return _QUANTIZED.sub("", repository.rsplit("/", 1)[-1]).lower()


def file_name(stem: str) -> str:
    """What clients call the model of a file, its quantization left out."""
    plain = _PART.sub("", stem)
    match = _LAST.match(plain)
    return (match[1] if match and named_in(match[2]) else plain).lower()


def _official(name: str) -> str | None:
    """The known model of this name: short, official, or its GGUF repository's."""
    lower = name.lower()
    if lower in SHORT:
        return SHORT[lower]
    for official, repository in KNOWN.items():
        if lower in (official.lower(), repository.lower(), short_name(repository)):
            return official
    return None


def _candidates(repository: str) -> tuple[str, ...]:
    """A repository, and the one that its owner would name for its GGUF files."""
    named = _QUANTIZED.search(repository)
    return (repository,) if named else (repository, f"{repository}-GGUF")
