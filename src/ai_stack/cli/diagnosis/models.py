"""The models: whether one is served, and whether the default one fits the memory."""

from collections.abc import Iterator

from ai_stack.cli.diagnosis import Finding, Stack
from ai_stack.errors import AIStackError
from ai_stack.supervisor.parts import LLAMA_CPP
from ai_stack.weights.fit import available_bytes, estimate
from ai_stack.weights.shelf import FOLDER, Model, Shelf, is_path

WHY = "Inference answers 404 for a model that is not there."
GIB = 1 << 30


def served(stack: Stack) -> Iterator[Finding]:
    """Whether there is anything to infer with: served now, or on the shelf for a later start."""
    settings, shelf = stack.settings, Shelf(stack.settings.data_dir / FOLDER)
    if stack.served is not None and not stack.served.models:
        yield Finding("models", "The gateway serves no model.", WHY, _bring(stack))
    elif stack.served is None and settings.engine_urls == [LLAMA_CPP] and not shelf.all():
        yield Finding("models", f"There is no model in {shelf.folder}.", WHY, _bring(stack))
    wanted = settings.default_model
    if stack.served is not None and stack.served.models and wanted:
        names = [model.id for model in stack.served.models]
        if wanted not in names:
            yield Finding(
                "models",
                f"The default model {wanted} is not served; served are {', '.join(names)}.",
                "A request that names no model fails.",
                f"AI_STACK_DEFAULT_MODEL={names[0]}, or ai-stack models pull {wanted}",
            )


def unfinished(stack: Stack) -> Iterator[Finding]:
    for each in Shelf(stack.settings.data_dir / FOLDER).unfinished():
        done, size = each.done_bytes / GIB, each.size_bytes / GIB
        yield Finding(
            "models",
            f"The download of {each.repository} has {done:.1f} of {size:.1f} GiB.",
            "It cannot be served before it is whole.",
            f"ai-stack models pull {each.repository} goes on where it stopped",
        )


def fit(stack: Stack) -> Iterator[Finding]:
    """Whether the model that llama.cpp serves from the start has room, before it is loaded."""
    settings = stack.settings
    model = _default(stack)
    if model is None or stack.runs:
        return
    ctx, slots = settings.llama_cpp_ctx_size, settings.llama_cpp_web_concurrency
    needed = estimate(model, ctx, slots, settings.llama_cpp_cache_type).total_bytes
    left = available_bytes()
    if needed > left and settings.llama_cpp_gpu_layers == 0:
        yield Finding(
            "models",
            f"{model.id} needs about {needed / GIB:.1f} GiB, and {left / GIB:.1f} GiB are left.",
            "It is not loaded, so that nothing else is killed for it.",
            f"LLAMA_CPP_CTX_SIZE={ctx // 2} or LLAMA_CPP_WEB_CONCURRENCY=1 takes less; so does a "
            "smaller model or quantization",
        )


def _default(stack: Stack) -> Model | None:
    name = stack.settings.llama_cpp_default_model
    if name is None or LLAMA_CPP not in stack.settings.engine_urls:
        return None
    try:
        return Shelf(stack.settings.data_dir / FOLDER).find(name)
    except AIStackError:
        return None


def _bring(stack: Stack) -> str:
    name = stack.settings.llama_cpp_default_model or "Qwen/Qwen2.5-Coder-7B-Instruct"
    if is_path(name):
        return f"put a model at {name}, which LLAMA_CPP_DEFAULT_MODEL names, or name another"
    return f"ai-stack models pull {name}"
