"""`tune`: how PostgreSQL and Redis are set for this machine's memory, and why."""

from dataclasses import asdict
from typing import Annotated

import typer

from ai_stack.cli.options import AsJson, print_json, say
from ai_stack.settings import load_settings
from ai_stack.supervisor import tuning

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def tune(
    memory: Annotated[
        str | None,
        typer.Option(help="Memory to tune for, such as 16gb; by default AI_STACK_MEMORY."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the settings of PostgreSQL and Redis that follow from the memory they may use.

    A supervised server has them from its next start on; for a server of your own they are lines
    to put into postgresql.conf and redis.conf.
    """
    counted = tuning.memory_bytes(_checked(memory) or load_settings().memory)
    found = tuning.tuned(counted)
    if as_json:
        print_json({"memory_bytes": counted, "settings": [asdict(one) for one in found]})
        return
    say(f"For {counted / tuning.GIB:.1f} of this machine's {_machine()} GB:")
    for one in found:
        say(f"  {one.server:8} {one.name:28} {one.value:8} {one.why}")


def _machine() -> str:
    return f"{tuning.machine_bytes() / tuning.GIB:.1f}"


def _checked(memory: str | None) -> str | None:
    if memory is None:
        return None
    number, unit = memory[:-2], memory[-2:].lower()
    if unit not in tuning.UNITS or not number.isdecimal() or not int(number):
        raise typer.BadParameter(f"{memory!r} is no size such as 16gb.", param_hint="--memory")
    return memory
