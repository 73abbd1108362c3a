"""Functions to call, and calls of them as models write them: where each kind was seen is in it."""

import json
from pathlib import Path

DATA = Path(__file__).parent / "unit"


def tool(name: str, properties: dict, required: tuple | list = (), **more) -> dict:
    parameters = {"type": "object", "properties": properties, "required": list(required), **more}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
TODO = {
    "type": "object",
    "properties": {
        "content": TEXT,
        "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
    },
    "required": ["content", "status"],
}
TOOLS = [
    tool(
        "get_weather",
        {
            "city": TEXT,
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": WHOLE,
        },
        ["city"],
    ),
    tool(
        "read_file",
        {"filePath": TEXT, "startLine": WHOLE, "endLine": WHOLE},
        ["filePath"],
        additionalProperties=False,
    ),
    tool("write_file", {"path": TEXT, "content": TEXT}, ["path", "content"]),
    tool(
        "run_command",
        {
            "command": TEXT,
            "background": {"type": "boolean"},
            "timeout_s": {"type": "number"},
            "env": {"type": "object", "additionalProperties": TEXT},
        },
        ["command"],
    ),
    tool(
        "search",
        {"query": TEXT, "limit": WHOLE, "tags": {"type": "array", "items": TEXT}},
        ["query"],
    ),
    tool("list_files", {}),
    tool(
        "update_todos",
        {"todos": {"type": "array", "items": {"$ref": "#/$defs/todo"}}},
        ["todos"],
        **{"$defs": {"todo": TODO}},
    ),
    tool("lookup_order", {"order_id": TEXT}, ["order_id"]),
    tool(
        "editor",
        {
            "command": {"type": "string", "enum": ["view", "create"]},
            "path": TEXT,
            "view_range": {"type": "array", "items": WHOLE},
        },
        ["command", "path"],
    ),
]


def rows(name: str) -> list[dict]:
    text = (DATA / name).read_text()
    return [json.loads(line) for line in text.splitlines()]
