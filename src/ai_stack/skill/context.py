"""What a skill is given for one run: the stack's services, a folder for what it makes, progress.

It is the same in the stack's own process and in one apart: what it asks goes through `calls`,
and who runs the skill answers within the rights of whoever started it.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ai_stack.errors import SkillFailed, Unavailable
from ai_stack.models.documents import JSON

Answer: TypeAlias = dict[str, Any]
UNSAFE = re.compile(r"[^\w.,+=@ ()-]+")
LONGEST_NAME = 120


class Calls(Protocol):
    """Asks the stack for one thing by name; raises its errors as they are."""

    async def __call__(self, ability: str, parameters: Mapping[str, JSON]) -> Any: ...


async def offline(ability: str, parameters: Mapping[str, JSON]) -> Any:
    """No stack: progress goes nowhere, nothing is served."""
    if ability == "progress":
        return None
    if ability == "models":
        return []
    raise Unavailable(f"This skill runs without a stack, which it would need for {ability}.")


@dataclass(slots=True)
class Context:
    """One run's surroundings.

    `folder`: what is left here when the run ends are its artifacts. `scratch`: is gone then.
    """

    folder: Path
    scratch: Path
    calls: Calls = offline
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("skill"))

    def artifact(self, name: str) -> Path:
        """Where to write a file that the caller gets, by a name that is safe and not yet taken."""
        plain = UNSAFE.sub("-", Path(name).name).strip(" .") or "file"
        stem, suffix = Path(plain).stem[:LONGEST_NAME], Path(plain).suffix
        path, number = self.folder / f"{stem}{suffix}", 2
        while path.exists():
            path, number = self.folder / f"{stem}-{number}{suffix}", number + 1
        return path

    async def progress(self, done: int, total: int, message: str = "") -> None:
        """Tell how far the run is; cheap, may be told often."""
        await self.calls("progress", {"done": done, "total": total, "message": message})

    async def search(self, query: str, **options: JSON) -> list[Answer]:
        """Documents with the passages that answer `query`, best first.

        `options` and results are those of POST /search/semantic. Needs `search`.
        """
        found: list[Answer] = await self.calls("search", {"query": query, **options})
        return found

    async def document(self, id: str) -> Answer:
        """One document as GET /documents/{id} shows it; NotFound. Needs `documents`."""
        found: Answer = await self.calls("document", {"id": id})
        return found

    async def documents(self, **options: JSON) -> Answer:
        """A page of documents, as GET /documents gives it: `items`, `next_cursor`. Needs
        `documents`."""
        found: Answer = await self.calls("documents", options)
        return found

    async def add_documents(self, documents: Sequence[Mapping[str, JSON]]) -> list[Answer]:
        """Store documents, all or none, each with `content` and maybe `id` and `metadata`.

        AlreadyExists for an id that is taken. Needs `documents:write`.
        """
        given: list[JSON] = [dict(document) for document in documents]
        found: list[Answer] = await self.calls("add_documents", {"documents": given})
        return found

    async def put_document(
        self, id: str, content: str, metadata: Mapping[str, JSON] | None = None
    ) -> Answer:
        """Store a document under an id, whether there was one or not. Needs `documents:write`."""
        given: dict[str, JSON] = {"id": id, "content": content, "metadata": dict(metadata or {})}
        found: Answer = await self.calls("put_document", given)
        return found

    async def delete_document(self, id: str) -> None:
        """Delete a document; NotFound. Needs `documents:write`."""
        await self.calls("delete_document", {"id": id})

    async def models(self) -> list[str]:
        """The language models that are served now; none is no failure. Needs `inference`."""
        found: list[str] = await self.calls("models", {})
        return found

    async def generate(self, prompt: str, **options: JSON) -> str | None:
        """A model's answer, None where no model is served: say in `notes` what was left out.

        `options` are those of POST /inference/generate. Needs `inference`.
        """
        if not await self.models():
            return None
        found: Answer = await self.calls("generate", {"prompt": prompt, **options})
        return str(found["text"])

    async def wanted(self, prompt: str, **options: JSON) -> str:
        """As `generate`, for what cannot be done without: SkillFailed where no model is served."""
        answer = await self.generate(prompt, **options)
        if answer is None:
            raise SkillFailed("This needs a language model; `ai-stack models pull` brings one.")
        return answer
