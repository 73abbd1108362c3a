"""Whole pages: put together, taken apart, turned."""

from collections.abc import Sequence

from pypdf import PdfWriter

from ai_stack.skill import SkillFailed

from .document import FAULTS, page_numbers, reader_of, written

MAX_PARTS = 500
UNFIT = "The pages of this PDF cannot be taken over: it is damaged."


def merged(files: Sequence[bytes], ranges: Sequence[str]) -> bytes:
    """The pages of several files, in order."""
    writer = PdfWriter()
    try:
        for data, wanted in zip(files, ranges, strict=True):
            reader = reader_of(data)
            numbers = page_numbers(wanted, len(reader.pages))
            writer.append(reader, pages=numbers)
    except FAULTS:
        raise SkillFailed(UNFIT) from None
    return written(writer)


def split(data: bytes, parts: Sequence[Sequence[int]]) -> list[bytes]:
    """A file for each group of pages; none holds anything of the others."""
    if len(parts) > MAX_PARTS:
        raise SkillFailed(f"That would be {len(parts)} files; at most {MAX_PARTS} are made.")
    found = []
    for numbers in parts:
        writer = PdfWriter()
        try:
            writer.append(reader_of(data), pages=list(numbers), import_outline=False)
        except FAULTS:
            raise SkillFailed(UNFIT) from None
        found.append(written(writer))
    return found


def groups(count: int, ranges: Sequence[str], every: int) -> list[list[int]]:
    """The pages of each part, for ranges or for parts of so many pages."""
    if bool(ranges) == bool(every):
        raise SkillFailed("Give either `ranges` or `every`.")
    if ranges:
        return [page_numbers(one, count) for one in ranges]
    return [list(range(n, min(n + every, count))) for n in range(0, count, every)]


def rotated(data: bytes, pages: Sequence[int], degrees: int) -> bytes:
    """The file with some pages turned clockwise."""
    try:
        writer = PdfWriter(clone_from=reader_of(data))
        for number in pages:
            writer.pages[number].rotate(degrees)
    except FAULTS:
        raise SkillFailed(UNFIT) from None
    return written(writer)
