"""Word documents: created, read, edited, filled from a template, commented on."""

import asyncio
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from docx import Document
from docx.document import Document as Docx
from pydantic import Field, JsonValue

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .blocks import Block, Blocks
from .comments import Comment, add_comments, comments_of
from .document import created, describe, set_margins
from .edits import Change, apply_changes
from .markdown import blocks_of
from .package import WORD, opened
from .pictures import by_name
from .reading import Reader
from .template import filled, names

MAX_MARKDOWN = 1_000_000
Name: TypeAlias = Annotated[str, Field(max_length=120, description="Name of the file it makes.")]
Source: TypeAlias = Annotated[File, Field(description="A Word document (.docx).")]
Images: TypeAlias = Annotated[
    list[File], Field(max_length=200, description="Image files that blocks name.")
]


class WordDocuments(Skill):
    @action
    async def create(
        self,
        blocks: Annotated[Blocks, Field(description="What the document consists of.")] = [],  # noqa: B006
        markdown: Annotated[
            str, Field(max_length=MAX_MARKDOWN, description="The same as Markdown.")
        ] = "",
        images: Images = [],  # noqa: B006
        name: Name = "document.docx",
        title: Annotated[str, Field(max_length=250, description="Title in its properties.")] = "",
        author: Annotated[str, Field(max_length=250, description="Author, likewise.")] = "",
        header: Annotated[str, Field(max_length=500, description="Text above each page.")] = "",
        footer: Annotated[
            str, Field(max_length=500, description="Text below; {page} and {pages} are numbers.")
        ] = "",
        landscape: Annotated[bool, Field(description="Pages wider than high.")] = False,
    ) -> SkillResult:
        """Make a document from blocks or Markdown."""
        if bool(blocks) == bool(markdown.strip()):
            raise SkillFailed("Give either `blocks` or `markdown`: one of them, and not empty.")

        def made() -> Docx:
            content: Sequence[Block] = blocks or blocks_of(markdown)
            document = created(content, by_name(images), landscape=landscape)
            describe(document, title, author)
            set_margins(document, header, footer)
            return document

        return await self._saved(await asyncio.to_thread(made), name, "Made")

    @action
    async def read(
        self,
        file: Source,
        images: Annotated[bool, Field(description="Whether images become artifacts.")] = True,
    ) -> SkillResult:
        """Give a document's content as blocks, its images as files."""
        document = await asyncio.to_thread(opened, file)
        place = self.context.artifact if images else None
        found = await asyncio.to_thread(Reader(document, place).read)
        said = comments_of(document)
        output: dict[str, JSON] = {
            "blocks": [block.model_dump() for block in found.blocks],
            "images": found.images,
            "comments": said,
            "properties": _properties(document),
            **_margins(document),
        }
        summary = f"{_counted(found.blocks)}; {len(said)} comments."
        cut = ("There is more than 20,000 blocks; the rest was left out.",) if found.cut else ()
        return SkillResult(output, summary, cut)

    @action
    async def edit(
        self,
        file: Source,
        changes: Annotated[
            list[Change],
            Field(min_length=1, max_length=1000, description="Done in order, all or none."),
        ],
        images: Images = [],  # noqa: B006
        name: Name = "",
    ) -> SkillResult:
        """Change a document and leave all else in it as it is."""
        document = await asyncio.to_thread(opened, file)
        counts = await asyncio.to_thread(apply_changes, document, changes, by_name(images))
        result = await self._saved(document, name or file.name, "Changed")
        return SkillResult({**result.output, "applied": counts}, result.summary)

    @action
    async def fill(
        self,
        file: Source,
        values: Annotated[dict[str, JsonValue], Field(description="The names in the template.")],
        missing: Annotated[
            Literal["fail", "blank"], Field(description="What becomes of names without a value.")
        ] = "fail",
        name: Name = "",
    ) -> SkillResult:
        """Fill a template's placeholders, conditions and loops with values."""
        data = await asyncio.to_thread(WORD.checked, file)
        wanted = await asyncio.to_thread(names, data)
        lacking = [one for one in wanted if one not in values]
        if not wanted:
            raise SkillFailed("The template has no placeholders such as {{ name }}.")
        if lacking and missing == "fail":
            raise SkillFailed(f"The template wants values for {', '.join(lacking)}.")
        blank = missing == "blank"
        made = await asyncio.to_thread(filled, data, values, blank=blank)
        result = await self._saved(Document(io.BytesIO(made)), name or file.name, "Filled")
        unused = sorted(set(values) - set(wanted))
        output = {**result.output, "wanted": wanted, "missing": lacking, "unused": unused}
        notes = (f"The template does not use {', '.join(unused)}.",) if unused else ()
        return SkillResult(output, result.summary, notes)

    @action
    async def comment(
        self,
        file: Source,
        comments: Annotated[
            list[Comment],
            Field(min_length=1, max_length=1000, description="What is said on which text."),
        ],
        name: Name = "",
    ) -> SkillResult:
        """Add comments, each anchored to a text of the document."""
        document = await asyncio.to_thread(opened, file)
        await asyncio.to_thread(add_comments, document, comments)
        result = await self._saved(document, name or file.name, "Commented on")
        return SkillResult({**result.output, "comments": comments_of(document)}, result.summary)

    async def _saved(self, document: Docx, name: str, verb: str) -> SkillResult:
        """The document as an artifact, read back to tell what is in it."""
        path = self.context.artifact(_docx(name))
        await asyncio.to_thread(document.save, str(path))
        blocks = (await asyncio.to_thread(Reader(opened(path), None).read)).blocks
        counts = _counts(blocks)
        output: Mapping[str, JSON] = {"file": path.name, "contains": counts}
        return SkillResult(output, f"{verb} {path.name}: {_counted(blocks)}.")


def _docx(name: str) -> str:
    return name if name.lower().endswith(".docx") else f"{Path(name).stem or 'document'}.docx"


def _counts(blocks: Sequence[Block]) -> dict[str, JSON]:
    kinds = [block.type for block in blocks]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _counted(blocks: Sequence[Block]) -> str:
    told = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in _counts(blocks).items())
    return told or "nothing"


def _properties(document: Docx) -> dict[str, JSON]:
    known = document.core_properties
    dates = {"created": known.created, "modified": known.modified}
    texts: dict[str, JSON] = {n: getattr(known, n) or "" for n in ("title", "author", "subject")}
    return texts | {name: at.isoformat() if at else None for name, at in dates.items()}


def _margins(document: Docx) -> dict[str, JSON]:
    def texts(kind: str) -> list[JSON]:
        parts = [getattr(section, kind) for section in document.sections]
        own = [part for part in parts if not part.is_linked_to_previous]
        return ["\n".join(p.text for p in part.paragraphs) for part in own]

    return {"headers": texts("header"), "footers": texts("footer")}
