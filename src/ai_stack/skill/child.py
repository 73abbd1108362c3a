"""One run of a skill in a process of its own: `python -m ai_stack.skill.child FD`.

It confines itself before it loads a line of the skill. What the skill asks of the stack goes over
the socket with this descriptor; what it prints goes to its log.
"""

import asyncio
import itertools
import json
import logging
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_stack.errors import AIStackError, SkillFailed
from ai_stack.models.documents import JSON
from ai_stack.sandbox import Confinement, kernel
from ai_stack.skill.context import Context
from ai_stack.skill.discovery import derived_schema, load
from ai_stack.skill.wire import LONGEST, Message, encoded, error_json, error_of, result_json


@dataclass
class Line:
    """The connection to whoever started this process; its calls are told apart by number."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _waiting: dict[int, "asyncio.Future[Any]"] = field(default_factory=dict)

    async def call(self, ability: str, parameters: Mapping[str, JSON]) -> Any:
        """Ask the stack for one thing."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.send({"call": number, "ability": ability, "parameters": dict(parameters)})
        return await answer

    async def send(self, message: Mapping[str, Any]) -> None:
        self.writer.write(encoded(message))
        await self.writer.drain()

    async def receive(self) -> Message:
        found: Message = json.loads(await self.reader.readline())
        return found

    async def listen(self) -> None:
        """Hand answers to those who wait, without end."""
        while True:
            message = await self.receive()
            waiting = self._waiting.pop(message["answer"])
            if "error" in message:
                waiting.set_exception(error_of(message["error"]))
            else:
                waiting.set_result(message["result"])


async def serve(descriptor: int) -> None:
    """Take one order and answer it."""
    sock = socket.socket(fileno=descriptor)
    reader, writer = await asyncio.open_connection(sock=sock, limit=LONGEST)
    line = Line(reader, writer)
    order = (await line.receive())["run"]
    confine(order["confinement"])
    listening = asyncio.create_task(line.listen())
    try:
        answer = await answered(order, line)
    finally:
        listening.cancel()
    await line.send(answer)


async def answered(order: Message, line: Line) -> Message:
    """The last message: what came of the order. What fails unexpectedly is told by its kind."""
    try:
        if order["arguments"] is None:
            return {"result": derived_schema(Path(order["skill"]))}
        return {"result": await _run(order, line)}
    except AIStackError as error:
        return {"error": error_json(error)}
    except MemoryError:
        return {"error": error_json(SkillFailed("It needed more memory than it is given."))}
    except Exception as error:  # whatever it is: the log has the rest
        logging.getLogger("skill").exception("unexpected failure")
        told = f"The skill failed unexpectedly ({type(error).__name__}); its log tells where."
        return {"error": error_json(SkillFailed(told))}


async def _run(order: Message, line: Line) -> Message:
    context = Context(Path(order["folder"]), Path(order["scratch"]), line.call)
    skill = load(Path(order["skill"]))(context)
    return result_json(await skill.execute(**order["arguments"]))


def confine(told: Message) -> None:
    """Give up all that the order does not grant; says so where the kernel cannot hold it."""
    given = {**told, "reads": [*map(Path, told["reads"])], "writes": [*map(Path, told["writes"])]}
    os.chdir(told["writes"][0])
    if not kernel.enter(Confinement(**given)):
        logging.getLogger("skill").warning("this kernel confines no files: only limits hold")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
