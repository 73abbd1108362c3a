"""`agent`: have a model work on a goal with tools, and answer what it asks."""

import sys
from typing import Annotated

import typer

from ai_stack.cli.client import Answer, Gateway, connect, quoted
from ai_stack.cli.options import AsJson, print_json, say, shortened

WIDTH = 100

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def agent(
    goal: Annotated[list[str], typer.Argument(metavar="GOAL...", help="What is to be reached.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="By default the first that is served.")
    ] = None,
    tool: Annotated[
        list[str] | None,
        typer.Option(help="A tool or skill that it may use; with none named it looks for them."),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="A tool that needs no approval; may be repeated.")
    ] = None,
    max_steps: Annotated[int, typer.Option(min=1, max=100, help="Answers of the model.")] = 16,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of all steps.")] = 200_000,
    time_s: Annotated[float, typer.Option(min=1, help="Seconds of work.")] = 900.0,
    background: Annotated[bool, typer.Option(help="Return at once, with the run's id.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a model work on GOAL step by step; asks before anything that is not harmless."""
    body = {
        "goal": " ".join(goal),
        "model": model,
        "tools": tool or [],
        "allow": allow or [],
        "max_steps": max_steps,
        "max_tokens": max_tokens,
        "time_s": time_s,
    }
    with connect() as gateway:
        run = gateway.ask("POST", "/agent/run", json=body)
        if not background:
            run = _followed(gateway, str(run["id"]), as_json)
    _report(run, as_json)


def _followed(gateway: Gateway, id: str, quiet: bool) -> Answer:
    """The run when it has ended, or when it waits and nobody is there to ask."""
    for kind, data in gateway.events(id):
        if kind == "ask" and not _answered(gateway, id, data, quiet):
            break
        if kind == "step" and not quiet:
            _show(data)
    return gateway.insist("GET", f"/runs/{quoted(id)}")


def _answered(gateway: Gateway, id: str, asked: Answer, quiet: bool) -> bool:
    """Put the question to the person at the terminal; False where none is."""
    if quiet or not sys.stdin.isatty():
        return False
    say(f"? {asked['message']} {shortened(str(asked['arguments']), WIDTH)}")
    approve = typer.confirm("Approve", default=False)
    answer = {"approve": approve, "call": asked["call"]}
    gateway.ask("POST", f"/agent/runs/{quoted(id)}/answer", json=answer)
    return True


def _show(step: Answer) -> None:
    """One line for a call, and one for what came of it."""
    for call in step.get("message", {}).get("tool_calls") or ():
        function = call["function"]
        say(f"> {function['name']} {shortened(function['arguments'], WIDTH)}")
    if "result" in step:
        say(f"  {shortened(step['text'], WIDTH)}")


def _report(run: Answer, as_json: bool) -> None:
    if as_json:
        print_json(run)
    elif run["status"] == "succeeded":
        say(str(run["output"]["text"]))
        if "stopped" in run["output"]:
            say(f"(stopped by {run['output']['stopped']})")
    elif run["status"] == "waiting":
        say(f"Run {run['id']} waits for your answer: ai-stack runs show {run['id']}")
    else:
        say(f"Run {run['id']} {run['status']}. {run.get('error') or ''}".rstrip())
    raise typer.Exit(1 if run["status"] in ("failed", "cancelled") else 0)
