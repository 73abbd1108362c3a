"""`embeddings`: the models that documents are embedded by, and the way from one to another."""

from typing import Annotated

import typer

from ai_stack.cli.client import connect, quoted
from ai_stack.cli.options import AsJson, print_json
from ai_stack.cli.progress import bars, follow
from ai_stack.cli.runs import report

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Model = Annotated[str, typer.Argument(help="The model's name, or its key name@weights.")]
PATH = "/embeddings/models"


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that have vectors, and how complete each is."""
    with connect() as gateway:
        found = list(gateway.items(PATH, None))
    if as_json:
        print_json({"items": found})
        return
    for model in found:
        share = f"{model['embedded']} of {model['chunks']} chunks"
        print(f"{model['state']:9} {model['key']:44} {model['dimensions']:>5} numbers  {share}")


@app.command()
def migrate(
    model: Model,
    switch: Annotated[bool, typer.Option(help="Have it answer when it is complete.")] = True,
    wait: Annotated[bool, typer.Option(help="Follow it to its end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Embed everything by another model while the present one answers, then switch to it."""
    with connect() as gateway, bars(as_json) as shown:
        run = gateway.ask("POST", f"{PATH}/migrate", json={"model": model, "switch": switch})
        run = follow(gateway, run, shown) if wait else run
    report(run, as_json)


@app.command()
def switch(model: Model, as_json: AsJson = False) -> None:
    """Have a model answer that is complete; the one before it stays as the way back."""
    _post("switch", {"model": model}, as_json)


@app.command()
def back(as_json: AsJson = False) -> None:
    """Have the model before the active one answer again."""
    _post("back", {}, as_json)


@app.command()
def drop(model: Model, as_json: AsJson = False) -> None:
    """Forget a model that does not answer, with its vectors and its index."""
    with connect() as gateway:
        gateway.ask("DELETE", f"{PATH}/{quoted(model)}")
    if as_json:
        print_json({"dropped": model})
    else:
        print(f"{model} is dropped.")


def _post(verb: str, body: dict[str, str], as_json: bool) -> None:
    with connect() as gateway:
        found = gateway.ask("POST", f"{PATH}/{verb}", json=body)
    if as_json:
        print_json(found)
    else:
        print(f"{found['key']} answers now.")
