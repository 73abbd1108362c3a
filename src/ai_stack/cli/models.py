"""`models`: the language models on this machine, pulled, shown, loaded and removed."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_stack.channel import Channel
from ai_stack.cli.options import AsJson, print_json, say
from ai_stack.cli.pulls import shown
from ai_stack.errors import ModelNotFound, StackError, Unavailable
from ai_stack.hub import open_hub
from ai_stack.settings import Settings, load_settings
from ai_stack.supervisor.account import find_account
from ai_stack.weights import fit
from ai_stack.weights.gguf import Facts
from ai_stack.weights.names import resolve
from ai_stack.weights.pull import adopt, pull
from ai_stack.weights.shelf import FOLDER, Model, Shelf, Unfinished, is_path

SOCKET = "models.sock"
LIST_S, LOAD_S, STOP_S = 5.0, 3600.0, 60.0

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A model's id, repository or other name.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that are here, and which of them are loaded."""
    settings = load_settings()
    shelf = _shelf(settings)
    states = _states(settings)
    models, unfinished = shelf.all(), shelf.unfinished()
    if as_json:
        found = [_described(model, states) for model in models]
        print_json({"models": found, "unfinished": [_partial(each) for each in unfinished]})
        return
    for model in models:
        say(_row(model, states.get(model.id, "")))
    for each in unfinished:
        percent = 100 * each.done_bytes // max(1, each.size_bytes)
        say(f"{each.names[0]}  {each.quantization}  {percent} % of it has come")
    if not models and not unfinished:
        say("There is no model here yet: `ai-stack models pull qwen2.5-coder-7b` brings one.")


@app.command("pull")
def pull_model(
    name: Annotated[
        str,
        typer.Argument(help="A known name, a hub's owner/repository, or the path of a .gguf file."),
    ],
    quantization: Annotated[
        str | None, typer.Option("--quantization", "-q", help="As Q8_0; by default Q4_K_M.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a model from the hub, or from a file; goes on where it was broken off."""
    settings = load_settings()
    shelf = _shelf(settings)
    give = find_account(settings.run_as, ()).give
    with shown(as_json) as progress:
        if is_path(name):
            model = adopt(_file(name), shelf, progress, give=give)
        else:
            source = resolve(name, quantization)
            model = pull(source, shelf, open_hub(settings), progress, give=give)
    if as_json:
        print_json(_described(model, {}))
    else:
        say(f"{model.id} is here, {_size(model.size_bytes)}. {_fits(settings, model)}")


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show a model's context, quantization and size, and whether it fits the memory."""
    settings = load_settings()
    model = _shelf(settings).get(name)
    states = _states(settings)
    if as_json:
        print_json({**_described(model, states), "fit": _fit(settings, model)})
        return
    for label, value in _lines(settings, model, states.get(model.id, "not loaded")):
        say(f"{label:13} {value}")


@app.command()
def serve(name: Name, as_json: AsJson = False) -> None:
    """Load a model now; a request would load it too."""
    settings = load_settings()
    model = _shelf(settings).get(name)
    try:
        answer = _ask(settings, "serve", LOAD_S, model=model.id)
    except Unavailable as error:
        raise StackError(
            "No supervised llama.cpp answers: start the stack with `ai-stack up`, and see that "
            "AI_STACK_ENGINES names llama-cpp:."
        ) from error
    if as_json:
        print_json({"id": model.id, "url": answer["url"]})
    else:
        say(f"{model.id} is loaded and answers at {answer['url']}.")


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Delete a model's files, or what has come of it; it is unloaded first."""
    settings = load_settings()
    shelf = _shelf(settings)
    model = None if is_path(name) and not Path(name).expanduser().exists() else shelf.find(name)
    if model is not None:
        _stop(settings, model)
        shelf.remove(str(model.file) if is_path(name) else model.id)
    discarded = shelf.discard(name)
    if model is None and not discarded:
        raise ModelNotFound(f"{name} is not here; `ai-stack models list` shows what is.")
    freed = sum(each.done_bytes for each in discarded) + (model.size_bytes if model else 0)
    if as_json:
        print_json({"id": model.id if model else discarded[0].names[0], "freed_bytes": freed})
    else:
        say(f"{name} is removed; {_size(freed)} are free again.")


def _shelf(settings: Settings) -> Shelf:
    return Shelf(settings.data_dir.absolute() / FOLDER)


def _file(name: str) -> Path:
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise ModelNotFound(f"There is no file {path}.")
    return path


def _ask(settings: Settings, method: str, timeout_s: float, model: str = "") -> dict[str, Any]:
    """What the host of models answers."""

    async def asked() -> dict[str, Any]:
        channel = Channel(settings.runtime / SOCKET, timeout_s=timeout_s)
        try:
            return (await channel.call(method, model=model))[0]
        finally:
            await channel.aclose()

    return asyncio.run(asked())


def _states(settings: Settings) -> dict[str, str]:
    """What the host of models says of each; nothing when the stack is not up."""
    try:
        found = _ask(settings, "list", LIST_S)["models"]
    except Unavailable:
        return {}
    return {each["id"]: _state(each) for each in found}


def _state(told: dict[str, Any]) -> str:
    word = {"stopped": "not loaded", "ready": "loaded"}.get(told["state"], told["state"])
    return f"{word}: {told['error']}" if told.get("error") else word


def _stop(settings: Settings, model: Model) -> None:
    """Unload a model; a stack that is not up has none loaded."""
    try:
        _ask(settings, "stop", STOP_S, model=model.id)
    except (Unavailable, ModelNotFound):
        return


def _described(model: Model, states: dict[str, str]) -> dict[str, Any]:
    facts = model.facts
    return {
        "id": model.id,
        "state": states.get(model.id),
        "kind": model.kind,
        "architecture": model.architecture,
        "parameters": facts.parameters,
        "quantization": model.quantization,
        "context_length": model.context_length,
        "layers": model.layers,
        "chat_template": facts.chat_template,
        "size_bytes": model.size_bytes,
        "repository": model.repository,
        "revision": model.revision,
        "file": str(model.file),
        "projector": None if model.projector is None else str(model.projector),
    }


def _partial(each: Unfinished) -> dict[str, Any]:
    return {
        "repository": each.repository,
        "quantization": each.quantization,
        "done_bytes": each.done_bytes,
        "size_bytes": each.size_bytes,
    }


def _fit(settings: Settings, model: Model) -> dict[str, Any]:
    context = _context(settings, model)
    slots, kind = settings.llama_cpp_web_concurrency, settings.llama_cpp_cache_type
    estimate = fit.estimate(model, context, slots, kind)
    available = fit.available_bytes()
    return {
        **asdict(estimate),
        "total_bytes": estimate.total_bytes,
        "available_bytes": available,
        "fits": estimate.total_bytes <= available,
        "context": context,
        "slots": slots,
        "cache_type": kind,
    }


def _context(settings: Settings, model: Model) -> int:
    return min(settings.llama_cpp_ctx_size, model.context_length or settings.llama_cpp_ctx_size)


def _fits(settings: Settings, model: Model) -> str:
    found = _fit(settings, model)
    word = "fits" if found["fits"] else "does not fit"
    return (
        f"It needs {_size(found['total_bytes'])} of memory for {found['slots']} × "
        f"{found['context']} tokens and {word} the {_size(found['available_bytes'])} that are free."
    )


def _lines(settings: Settings, model: Model, state: str) -> list[tuple[str, str]]:
    facts, found = model.facts, _fit(settings, model)
    weighed = ("weights", "cache", "overhead")
    memory = ", ".join(f"{_size(found[f'{name}_bytes'])} {name}" for name in weighed)
    return [
        ("id", model.id),
        ("state", state),
        ("serves", model.kind),
        ("architecture", f"{model.architecture}, {model.layers} layers{_count(facts)}"),
        ("quantization", model.quantization),
        ("context", f"{model.context_length} tokens; {found['context']} at the present settings"),
        ("chat", "has a template" if facts.chat_template else "has no template"),
        ("images", "yes" if model.projector else "no"),
        ("size", _size(model.size_bytes)),
        ("memory", memory),
        ("", _fits(settings, model)),
        ("from", model.repository or "a local file"),
        ("file", str(model.file)),
    ]


def _row(model: Model, state: str) -> str:
    facts = (
        f"{_size(model.size_bytes):>10}",
        f"{model.quantization:8}",
        f"{model.context_length:>8}",
    )
    return f"{model.id:40}  {'  '.join(facts)}  {state}".rstrip()


def _count(facts: Facts) -> str:
    """How many weights; the first part of a split model knows its own only."""
    if facts.parts > 1 or not facts.parameters:
        return ""
    return f", {facts.parameters / 1e9:.2g} billion weights"


def _size(size_bytes: int) -> str:
    if size_bytes < 1 << 30:
        return f"{size_bytes / (1 << 20):.1f} MiB"
    return f"{size_bytes / (1 << 30):.2f} GiB"
