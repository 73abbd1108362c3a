"""The stack itself: its ports, its parts, and what the gateway says of its services."""

import errno
import socket
from collections.abc import Iterator

import httpx
import psutil

from ai_stack.cli.clients.served import direct
from ai_stack.cli.diagnosis import Finding, Stack
from ai_stack.supervisor.leftovers import marked
from ai_stack.supervisor.parts import LLAMA_CPP

GOOD = ("healthy", "disabled")
EMBEDDING_S = 10.0
NOT_LET = (401, 403)  # of these credentials it tells, and not of the embedder
WELL = ("running", "done")


def ports(stack: Stack) -> Iterator[Finding]:
    """Ports that somebody else listens on."""
    settings = stack.settings
    wanted = {"AI_STACK_PORT": (settings.host, settings.port)}
    if LLAMA_CPP in settings.engine_urls:
        wanted["AI_STACK_LLAMA_CPP_PORT"] = ("127.0.0.1", settings.llama_cpp_port)
    for variable, (host, port) in wanted.items():
        if not _taken(host, port) or (who := _listener(stack, port)) is None:
            continue
        yield Finding(
            "ports",
            f"Port {port} is taken by {who}.",
            "Neither can the gateway listen there, nor may clients send their requests there."
            if variable == "AI_STACK_PORT"
            else "llama.cpp serves its first model at another port than is set.",
            f"stop that program, or set {variable}={port + 1}",
        )


def supervisor(stack: Stack) -> Iterator[Finding]:
    pid = stack.supervisor
    if pid is None and stack.health is None:
        yield Finding("stack", "The stack is not running.", "Nothing answers.", "ai-stack up")
    elif pid is not None and stack.status is None:
        yield Finding(
            "stack",
            f"The supervisor (process {pid}) does not answer.",
            "It cannot restart parts, nor stop them.",
            f"kill -9 {pid}, then ai-stack up; nothing is lost",
        )


def parts(stack: Stack) -> Iterator[Finding]:
    for part in stack.status.parts if stack.status else ():
        if part.state not in WELL:
            last = f"; its last line: {part.log[-1]}" if part.log else ""
            yield Finding(
                "parts",
                f"{part.name} is {part.state}: {part.detail or 'no more is known'}{last}",
                "What needs it does not work.",
                f"ai-stack logs {part.name} tells why; ai-stack restart {part.name}",
            )


def gateway(stack: Stack) -> Iterator[Finding]:
    if stack.health is None and stack.runs:
        yield Finding(
            "gateway",
            f"No gateway answers at {stack.url}.",
            "Every client speaks to it.",
            "ai-stack logs aidb-mcp tells why; ai-stack restart aidb-mcp; see AI_STACK_URL",
        )
    services = stack.health["services"] if stack.health else {}
    for name, service in services.items():
        if service.get("status") not in GOOD:
            yield Finding(
                "gateway",
                f"The gateway says that {name} is {service.get('status')}"
                f"{': ' + service['detail'] if service.get('detail') else ''}.",
                "What needs it fails, or works less well.",
                f"ai-stack logs {name} tells why; ai-stack status shows its state",
            )


def credentials(stack: Stack) -> Iterator[Finding]:
    """What the gateway does not tell this shell."""
    if stack.refusal:
        yield Finding(
            "credentials",
            stack.refusal,
            "What it serves cannot be looked at, and most commands of this shell are refused.",
            "set AI_STACK_KEY, or run `ai-stack login`",
        )


def embedding(stack: Stack) -> Iterator[Finding]:
    """An embedder that answers pings may hang all the same, and searches with it."""
    if stack.served is None or stack.served.embedding_model is None:
        return
    body = {"model": stack.served.embedding_model, "input": "heron"}
    with direct(stack.url, EMBEDDING_S) as client:
        try:
            reply = client.post(f"{stack.url}/v1/embeddings", json=body)
            failed = reply.is_error and reply.status_code not in NOT_LET
        except httpx.HTTPError:
            failed = True
    if failed:
        yield Finding(
            "embedding",
            f"The gateway embeds no text within {EMBEDDING_S:.0f} s.",
            "Searches find by words alone, and documents wait for the index.",
            "ai-stack restart embedder; ai-stack logs embedder may tell why",
        )


def _taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _listener(stack: Stack, port: int) -> str | None:
    """Who listens there, None when it is this stack."""
    pids = {
        found.pid
        for found in psutil.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port
    }
    known = pids - {None}
    ours = {child.pid for child in marked(stack.settings.data_dir.absolute())} if stack.runs else ()
    if known and known <= set(ours):
        return None
    if not known:  # only the system's administrator sees whose processes these are
        own_gateway = port == stack.settings.port and stack.runs and stack.health is not None
        return None if own_gateway else "a program of another user"
    return ", ".join(f"{_name(pid)} (process {pid})" for pid in sorted(p for p in known if p))


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "a program"
