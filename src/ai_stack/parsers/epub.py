"""Electronic books: the chapters in reading order, each as its HTML reads."""

import posixpath
import zipfile
from urllib.parse import unquote

from ai_stack.errors import InvalidRequest
from ai_stack.parsers import Parsed, Source
from ai_stack.parsers.archive import Handler, opened, properties, read_member
from ai_stack.parsers.charset import decoded
from ai_stack.parsers.html import to_markdown


def parse(source: Source) -> Parsed:
    with opened(source) as archive:
        package = Package()
        read_member(archive, "META-INF/container.xml", package, needed=True)
        read_member(archive, package.path, package, needed=True)
        metadata = properties(archive, package.path)
        folder = posixpath.dirname(package.path)
        chapters = [
            _chapter(archive, posixpath.join(folder, name), source) for name in package.files
        ]
    title = str(metadata.pop("title", ""))
    return Parsed("\n\n".join(filter(None, chapters)), title, metadata)


def _chapter(archive: zipfile.ZipFile, name: str, source: Source) -> str:
    try:
        data = archive.read(posixpath.normpath(unquote(name)))
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise InvalidRequest("This file is damaged: a chapter is missing.") from error
    text, _ = decoded(Source(name, data, None, source.limits))
    return to_markdown(text)[0].strip()


class Package(Handler):
    """The path of the package and the files of its spine."""

    def __init__(self) -> None:
        self.path = ""
        self._items: dict[str, str] = {}
        self._spine: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "rootfile":
            self.path = self.path or attributes.get("full-path", "")
        elif tag == "item":
            self._items[attributes.get("id", "")] = attributes.get("href", "")
        elif tag == "itemref":
            self._spine.append(attributes.get("idref", ""))

    @property
    def files(self) -> list[str]:
        return [self._items[name] for name in self._spine if name in self._items]
