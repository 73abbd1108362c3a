"""PDF files: read, put together, taken apart, made, filled in, redacted."""

# mypy: disable-error-code="import-untyped"

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import pypdfium2
from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .blocks import Blocks
from .document import checked, page_numbers
from .extraction import Find, as_csv, tables, texts
from .finding import Search
from .forms import Value, fields_of, filled
from .layout import created
from .pages import groups, merged, rotated, split
from .redaction import Area, redacted

Source: TypeAlias = Annotated[File, Field(description="A PDF.")]
Pages: TypeAlias = Annotated[
    str, Field(max_length=2000, description="Pages as in 1,3,5-7 or 4- or -2; all without.")
]
Name: TypeAlias = Annotated[str, Field(max_length=120, description="Name of the file it makes.")]
MAX_TEXT = 2_000_000


class PDF(Skill):
    @action
    async def text(
        self,
        file: Source,
        pages: Pages = "",
        layout: Annotated[bool, Field(description="Keep columns apart with spaces.")] = False,
    ) -> SkillResult:
        """Give the text of pages."""
        data = await asyncio.to_thread(checked, file)
        numbers = page_numbers(pages, _count(data))
        found = await asyncio.to_thread(texts, data, numbers, layout=layout)
        left = MAX_TEXT
        shown: list[JSON] = []
        for number, text in zip(numbers, found, strict=True):
            shown.append({"page": number + 1, "text": text[:left]})
            left = max(0, left - len(text))
        empty = [number + 1 for number, text in zip(numbers, found, strict=True) if not text]
        notes = [_without_text(empty)] if empty else []
        notes += ["The text was cut at 2,000,000 characters."] if not left else []
        words = sum(len(text.split()) for text in found)
        output: dict[str, JSON] = {"pages": shown, "of": _count(data), "words": words}
        return SkillResult(output, f"{words} words on {len(numbers)} page(s).", tuple(notes))

    @action
    async def tables(
        self,
        file: Source,
        pages: Pages = "",
        find: Annotated[Find, Field(description="By drawn lines, or by aligned text.")] = "lines",
        csv: Annotated[bool, Field(description="Write each as a CSV file.")] = False,
    ) -> SkillResult:
        """Give the tables of pages as rows."""
        data = await asyncio.to_thread(checked, file)
        numbers = page_numbers(pages, _count(data))
        found = await asyncio.to_thread(tables, data, numbers, find)
        for n, table in enumerate(found, 1):
            if csv:
                path = self.context.artifact(f"table-{n}.csv")
                path.write_text(as_csv(table["rows"]), "utf-8")  # type: ignore[arg-type]
                table["file"] = path.name
        notes = () if found else ("No table was found; try find = text, or another page.",)
        return SkillResult({"tables": found}, f"{len(found)} table(s).", notes)

    @action
    async def merge(
        self,
        files: Annotated[
            list[File], Field(min_length=1, max_length=200, description="PDF files, in order.")
        ],
        pages: Annotated[
            list[str], Field(max_length=200, description="Pages of each file; all without.")
        ] = [],  # noqa: B006
        name: Name = "merged.pdf",
    ) -> SkillResult:
        """Put several files together."""
        if pages and len(pages) != len(files):
            raise SkillFailed(f"`pages` needs a range for each of the {len(files)} files.")
        data = [await asyncio.to_thread(checked, file) for file in files]
        made = await asyncio.to_thread(merged, data, pages or [""] * len(files))
        return self._written(made, name, f"Put {len(files)} files together")

    @action
    async def split(
        self,
        file: Source,
        ranges: Annotated[
            list[str], Field(max_length=500, description="Pages of each part, as in 1-3.")
        ] = [],  # noqa: B006
        every: Annotated[int, Field(ge=0, le=2000, description="Pages a part.")] = 0,
    ) -> SkillResult:
        """Take a file apart."""
        data = await asyncio.to_thread(checked, file)
        parts = groups(_count(data), ranges, every)
        made = await asyncio.to_thread(split, data, parts)
        files: list[JSON] = []
        for n, (part, numbers) in enumerate(zip(made, parts, strict=True), 1):
            path = self.context.artifact(f"{file.stem}-{n}.pdf")
            path.write_bytes(part)
            files.append({"file": path.name, "pages": len(numbers)})
        return SkillResult({"files": files}, f"{len(files)} files.")

    @action
    async def rotate(
        self,
        file: Source,
        degrees: Annotated[Literal[90, 180, 270], Field(description="Clockwise.")],
        pages: Pages = "",
        name: Name = "",
    ) -> SkillResult:
        """Turn pages."""
        data = await asyncio.to_thread(checked, file)
        numbers = page_numbers(pages, _count(data))
        made = await asyncio.to_thread(rotated, data, numbers, degrees)
        return self._written(made, name or file.name, f"Turned {len(numbers)} page(s)")

    @action
    async def create(
        self,
        blocks: Annotated[Blocks, Field(description="What the document consists of.")],
        images: Annotated[
            list[File], Field(max_length=200, description="Image files that blocks name.")
        ] = [],  # noqa: B006
        name: Name = "document.pdf",
        title: Annotated[str, Field(max_length=250, description="Title in its information.")] = "",
        author: Annotated[str, Field(max_length=250, description="Author, likewise.")] = "",
        footer: Annotated[
            str, Field(max_length=120, description="Below each page: {page}, {pages}.")
        ] = "",
        size: Annotated[Literal["a4", "letter"], Field(description="Of the paper.")] = "a4",
    ) -> SkillResult:
        """Make a document of headings, text, lists, tables and images."""
        pictures = {image.name: image for image in images}
        about = {"title": title, "author": author, "footer": footer, "size": size}
        made, lacking = await asyncio.to_thread(created, blocks, pictures, **about)
        notes = (f"No font here has {lacking[:60]}: these signs are not shown.",) if lacking else ()
        result = self._written(made, name, "Made")
        return SkillResult(result.output, result.summary, notes)

    @action
    async def fields(self, file: Source) -> SkillResult:
        """List the fields of a form."""
        data = await asyncio.to_thread(checked, file)
        found = await asyncio.to_thread(fields_of, data)
        return SkillResult({"fields": found}, f"{len(found)} field(s): {', '.join(found)[:500]}")

    @action
    async def fill_form(
        self,
        file: Source,
        values: Annotated[
            dict[str, Value],
            Field(min_length=1, max_length=2000, description="Values by the fields' names."),
        ],
        flatten: Annotated[bool, Field(description="Make them part of the page.")] = False,
        name: Name = "",
    ) -> SkillResult:
        """Fill in a form."""
        data = await asyncio.to_thread(checked, file)
        made = await asyncio.to_thread(filled, data, values, flatten=flatten)
        result = self._written(made, name or file.name, f"Filled in {len(values)} field(s)")
        now = {} if flatten else {n: f["value"] for n, f in fields_of(made).items()}
        return SkillResult({**result.output, "values": now}, result.summary)

    @action
    async def redact(
        self,
        file: Source,
        terms: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=500)]],
            Field(max_length=500, description="Words that go, whatever their case."),
        ] = [],  # noqa: B006
        patterns: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=300)]],
            Field(max_length=50, description="Regular expressions of what goes."),
        ] = [],  # noqa: B006
        areas: Annotated[
            list[Area], Field(max_length=1000, description="Parts of pages that go.")
        ] = [],  # noqa: B006
        name: Name = "",
    ) -> SkillResult:
        """Take words and areas out so that they are gone from the file."""
        if not (terms or patterns or areas):
            raise SkillFailed("Say what goes: `terms`, `patterns` or `areas`.")
        data = await asyncio.to_thread(checked, file)
        done = await asyncio.to_thread(redacted, data, Search(terms, patterns), areas)
        result = self._written(done.data, name or f"{file.stem}-redacted.pdf", "Redacted")
        gone: Mapping[str, JSON] = {str(page): count for page, count in done.pages.items()}
        output = {**result.output, "redacted": gone, "searched_again": True}
        notes = (_without_text(done.without_text),) if done.without_text else ()
        return SkillResult(output, f"{result.summary} {len(gone)} page(s) redrawn.", notes)

    def _written(self, data: bytes, name: str, verb: str) -> SkillResult:
        name = name if name.lower().endswith(".pdf") else f"{Path(name).stem or 'document'}.pdf"
        path = self.context.artifact(name)
        path.write_bytes(data)
        pages = _count(data)
        told = f"{verb}: {path.name}, {pages} page(s)."
        return SkillResult({"file": path.name, "pages": pages}, told)


def _count(data: bytes) -> int:
    with pypdfium2.PdfDocument(data) as document:
        return len(document)


def _without_text(pages: list[int]) -> str:
    shown = ", ".join(map(str, pages[:20]))
    return f"There is no text on page(s) {shown}: empty, or pictures of text, which are not read."
