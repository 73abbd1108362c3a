"""How another shell talks to a running supervisor: status, restart and stop over its socket."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ai_stack.channel import Channel, ChannelServer
from ai_stack.supervisor import PartStatus, StackStatus

SOCKET = "supervisor.sock"
ANSWER_S = 5.0
RESTART_S = 300.0


class Controlled(Protocol):
    """What the supervisor lets others do."""

    def status(self) -> StackStatus: ...

    async def restart(self, name: str) -> None: ...

    def stop(self, *, again: bool = False) -> None: ...


async def serve(stack: Controlled, runtime: Path) -> None:
    """Answer until cancelled."""

    async def status(header: Mapping[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        return {"status": asdict(stack.status())}, b""

    async def restart(header: Mapping[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        if header.get("part"):
            await stack.restart(str(header["part"]))
        else:
            stack.stop(again=True)
        return {}, b""

    async def stop(header: Mapping[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        stack.stop()
        return {}, b""

    handlers = {"status": status, "restart": restart, "stop": stop}
    await ChannelServer(handlers).serve(runtime / SOCKET)


async def ask_status(runtime: Path) -> StackStatus:
    """Raises Unavailable when no supervisor answers there."""
    answer = (await _call(runtime, "status", ANSWER_S))["status"]
    parts = tuple(PartStatus(**{**part, "log": tuple(part["log"])}) for part in answer["parts"])
    return StackStatus(**{**answer, "parts": parts})


async def ask_restart(runtime: Path, part: str | None) -> None:
    """Returns when the part is ready again; without a part, when the stack begins to stop."""
    await _call(runtime, "restart", RESTART_S, part=part)


async def ask_stop(runtime: Path) -> None:
    await _call(runtime, "stop", ANSWER_S)


async def _call(
    runtime: Path, method: str, timeout_s: float, part: str | None = None
) -> dict[str, Any]:
    channel = Channel(runtime / SOCKET, timeout_s=timeout_s)
    try:
        return (await channel.call(method, part=part))[0]
    finally:
        await channel.aclose()
