"""Files that callers give to a skill: they name them, the skill finds a path.

What a caller may write for one is the stack's to decide (a file of an earlier run, a document,
content within the request, a path in a folder that is open to skills). The skill always sees a
path that it may read.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import WithJsonSchema

FORMS = (
    "`run:ID/NAME` for a file of a run or an upload, `document:ID`, a `data:` URL, or a path in a"
    " folder that is open to skills"
)


def _string(format: str, description: str) -> dict[str, Any]:
    return {"type": "string", "format": format, "description": description}


File = Annotated[Path, WithJsonSchema(_string("file", f"A file: {FORMS}."))]
Folder = Annotated[
    Path,
    WithJsonSchema(
        _string("folder", "A folder: `run:ID/NAME` of a zip archive, or a path that is open.")
    ),
]
