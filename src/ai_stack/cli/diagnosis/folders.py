"""The folders and files of the stack: what is set, who may write, what a crash left behind."""

import os
import stat
from collections.abc import Iterator

from ai_stack.cli.diagnosis import Finding, Stack
from ai_stack.errors import AIStackError
from ai_stack.supervisor import control, folder
from ai_stack.supervisor.leftovers import marked

SECRETS = ("PASSWORD", "TOKEN", "KEY", "SECRET")


def settings(stack: Stack) -> Iterator[Finding]:
    for error in stack.wrong_settings:
        yield Finding(
            "settings",
            error.message,
            "Nothing starts with it; what follows was looked at without it.",
            f"correct it, in {stack.settings.config_dir / '.env'} or in the environment; "
            "`ai-stack settings` shows each setting and where it comes from",
        )


def secrets(stack: Stack) -> Iterator[Finding]:
    """A file of settings that holds secrets and that others may read."""
    file = stack.settings.config_dir / ".env"
    if not file.is_file() or not file.stat().st_mode & 0o077 or not os.access(file, os.R_OK):
        return
    names = [line.partition("=")[0] for line in file.read_text(errors="replace").splitlines()]
    if any(secret in name for name in names for secret in SECRETS if not name.startswith("#")):
        yield Finding(
            "secrets",
            f"{file} holds secrets and can be read by other users.",
            "Whoever reads them may use them.",
            f"chmod 600 {file}",
        )


def rights(stack: Stack) -> Iterator[Finding]:
    data = stack.settings.data_dir
    if not data.exists():
        return
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "rights",
            f"This user may not write to the data folder {data}.",
            "The stack cannot start as this user.",
            "start it as its owner, or set AI_STACK_DATA_DIR to a folder of your own",
        )
    elif data.stat().st_mode & stat.S_IWOTH:
        yield Finding(
            "rights",
            f"Every user may write to the data folder {data}.",
            "Anybody could exchange what the stack runs on.",
            f"chmod o-w {data}",
        )


def layout(stack: Stack) -> Iterator[Finding]:
    """A data folder of another version, or one that something else laid out."""
    data = stack.settings.data_dir
    if stack.runs or not os.access(data, os.R_OK | os.X_OK):
        return
    held = any(next((data / name).glob("*"), None) for name in ("postgres", "redis"))
    if not held and not (data / "layout.json").exists():
        return  # a new folder, which this check would mark
    try:
        folder.check_layout(data)
    except AIStackError as error:
        yield Finding(
            "layout",
            error.message,
            "The stack refuses to start on what it does not know.",
            "AI_STACK_DATA_DIR=FOLDER ai-stack up uses another folder meanwhile",
        )


def leftovers(stack: Stack) -> Iterator[Finding]:
    """What a supervisor that was killed left: processes, and the sockets that they served."""
    if stack.runs:
        return
    left = [child.pid for child in marked(stack.settings.data_dir.absolute()) if child.alive]
    if left:
        yield Finding(
            "leftovers",
            f"Processes of a stack that was killed still run: {', '.join(map(str, left))}.",
            "They hold the data folder and ports.",
            "ai-stack up (it ends them first)",
        )
    socket = stack.settings.runtime / control.SOCKET
    if socket.exists():
        yield Finding(
            "leftovers",
            f"{socket} is there, and no supervisor behind it.",
            "The last one was killed; nothing is lost.",
            "ai-stack up (it takes the socket over)",
        )
