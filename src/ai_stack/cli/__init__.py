"""The command line: a table of verbs, each of which loads its own module when it is called.

To add a verb: a line in VERBS and, in the module that it names, a typer `app` that either has
a command of the verb's name or is the verb (with commands of its own, as in `backup create`).
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from ai_stack import __version__
from ai_stack.errors import AIStackError, SettingsError

VERBS: dict[str, tuple[str, str]] = {
    "import": ("imports", "Import files, folders and URLs as documents."),
    "search": ("search", "Find passages by meaning and by words."),
    "documents": ("documents", "Add, list, show, edit and delete documents."),
    "export": ("exports", "Write documents to a file that import takes back."),
    "runs": ("runs", "List, follow, cancel and retry long work."),
    "embeddings": ("embeddings", "Change the embedding model, and go back."),
    "reindex": ("index", "Write the vector index anew, without embedding again."),
    "fsck": ("index", "Find and repair divergences between documents and index."),
    "eval": ("evaluation", "Judge search by a golden set, by mode and weight."),
    "chat": ("chat", "Ask a model, about your documents too; or talk with it."),
    "usage": ("usage", "Show requests, tokens and cost by time and model."),
    "report": ("report", "Show what is slow, and what all projects have used."),
    "agent": ("agent", "Have a model work on a goal with tools."),
    "skills": ("skills", "List, show and run skills; make one of your own."),
    "keys": ("keys", "Make, list, rotate and revoke API keys."),
    "users": ("users", "Make, list, suspend and remove users."),
    "login": ("login", "Log in at the gateway by name and password."),
    "logout": ("login", "End this shell's login."),
    "projects": ("projects", "Make, list, suspend and delete projects, and say who works in them."),
    "encryption": ("encryption", "Seal what a project keeps, and rotate the keys."),
    "audit": ("keys", "Show what changed who may do what."),
    "whoami": ("keys", "Show who the gateway takes this shell for."),
    "models": ("models", "List, pull, show, load and remove language models."),
    "serve": ("processes", "Run the gateway alone, on the servers that the settings name."),
    "worker": ("processes", "Run the background work alone."),
    "migrate": ("processes", "Bring the database's schema to this version."),
    "up": ("stack", "Start the stack, in the foreground or with --detach."),
    "down": ("stack", "Stop the stack."),
    "restart": ("stack", "Restart the stack, or one part of it."),
    "status": ("stack", "Show what each part does."),
    "logs": ("logs", "Show and follow the logs of the parts."),
    "health": ("health", "Ask the gateway how each service is."),
    "backup": ("backup", "Back the whole stack up, check backups, and restore one."),
    "mcp": ("mcp", "Speak MCP on standard input and output, for clients that start a program."),
    "connect": ("connect", "Point an editor or a chat client at the gateway."),
    "tune": ("tuning", "Show how PostgreSQL and Redis are set for this machine's memory."),
    "doctor": ("doctor", "Find what is wrong, and say how to mend it."),
    "settings": ("settings", "Show each setting, its variable and where its value comes from."),
}

OPENING = ("Usage: ai-stack VERB [OPTIONS]", "", "Everything for AI on your own machine.", "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb; exits with 0, 1 for a failure that is explained, 2 for a wrong call."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(overview())
    elif verb == "--version":
        print(f"ai-stack {__version__}")
    elif verb not in VERBS:
        sys.exit(_fail(f"There is no verb {verb}; `ai-stack --help` lists them.", 2))
    else:
        _run(verb, rest)


def overview() -> str:
    """The text of `ai-stack --help`; imports nothing, so that it is quick."""
    width = max(map(len, VERBS))
    lines = [f"  {name:{width}}  {summary}" for name, (_, summary) in VERBS.items()]
    return "\n".join([*OPENING, *lines, "", "ai-stack VERB --help tells more about one of them."])


def _run(verb: str, arguments: list[str]) -> None:
    from typer.main import get_command  # noqa: PLC0415 (help and version go without it)

    command = get_command(import_module(f"ai_stack.cli.{VERBS[verb][0]}").app)
    grouped = verb in getattr(command, "commands", {})
    name = "ai-stack" if grouped else f"ai-stack {verb}"
    try:
        command.main([verb, *arguments] if grouped else arguments, prog_name=name)
    except SettingsError as error:
        sys.exit(_fail(error.message, 2))
    except AIStackError as error:
        sys.exit(_fail(error.message, 1))


def _fail(message: str, status: int) -> int:
    print(f"ai-stack: {message}", file=sys.stderr)
    return status
