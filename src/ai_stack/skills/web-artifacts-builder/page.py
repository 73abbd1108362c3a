"""Rewrites a page: every tag that loads something holds it instead; all else stays as written."""

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeAlias

from ai_stack.skill import SkillFailed

from .app import App
from .modules import Modules
from .styles import declarations, inlined

Attributes: TypeAlias = list[tuple[str, str | None]]
Compile: TypeAlias = Callable[[Path], tuple[str, str]]
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' data: blob:; style-src 'unsafe-inline' data:;"
    " img-src data: blob:; font-src data:; media-src data: blob:; connect-src data: blob:;"
    " worker-src blob: data:; frame-src data: blob:; form-action 'none'; base-uri 'none'"
)
LOADED = {
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "input": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
}
ICONS = {"icon", "shortcut", "apple-touch-icon", "mask-icon"}
DROPPED = {
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "manifest",
    "prerender",
}
MODULE = "module"


@dataclass(slots=True)
class Script:
    """A script element that is being read."""

    kind: str
    attributes: Attributes
    text: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Reads a page and writes it anew as it goes."""

    def __init__(self, path: Path, app: App, modules: Modules, compile: Compile | None) -> None:
        super().__init__(convert_charrefs=False)
        self.path, self.app, self.modules, self.compile = path, app, modules, compile
        self.base, self.place = path.parent, app.name(path)
        self.out: list[str] = []
        self.last: list[str] = []
        self.script: Script | None = None
        self.style: list[str] | None = None
        self.head_at: int | None = None

    def written(self, html: str) -> str:
        """The page; what must come first is put at the start of its head."""
        self.feed(html)
        self.close()
        found = self.modules.import_map()
        head = f'\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        head += f'\n<script type="importmap">{found}</script>' if found else ""
        at = self.head_at if self.head_at is not None else self._first()
        self.out.insert(at, head)
        return "".join(self._ended())

    def _first(self) -> int:
        """Where a page without a head begins: after its doctype and its html tag."""
        parts = enumerate(self.out[:6])
        return max(
            (n + 1 for n, t in parts if t.lower().startswith(("<!doctype", "<html"))), default=0
        )

    def _ended(self) -> list[str]:
        """With the scripts that wait for the page at its end."""
        ends = [n for n, text in enumerate(self.out) if text.lower().startswith("</body")]
        at = ends[-1] if ends else len(self.out)
        return [*self.out[:at], *self.last, *self.out[at:]]

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        known = dict(attrs)
        if tag == "base" and known.get("href"):
            raise SkillFailed("The page has a base address, which moves all others; take it out.")
        if tag == "script" and (known.get("type") or "") in (
            "",
            MODULE,
            "text/javascript",
            "importmap",
        ):
            self.script = Script(known.get("type") or "", attrs)
        elif tag == "style":
            self.style = []
            self.out.append(self._text())
        elif tag == "link":
            self._link(attrs)
        else:
            self._plain(tag, attrs)
        if tag == "head":
            self.head_at = len(self.out)

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self.script is not None:
            script, self.script = self.script, None
            self._script(script)
        else:
            if tag == "style" and self.style is not None:
                css, self.style = "".join(self.style), None
                self.out.append(_safe_style(inlined(css, self.base, self.app, self.place)))
            self.out.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self.script is not None:
            self.script.text.append(data)
        elif self.style is not None:
            self.style.append(data)
        else:
            self.out.append(data)

    def handle_entityref(self, name: str) -> None:
        self.out.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.out.append(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        self.out.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self.out.append(f"<!{decl}>")

    def unknown_decl(self, data: str) -> None:
        self.out.append(f"<![{data}]>")

    def handle_pi(self, data: str) -> None:
        self.out.append(f"<?{data}>")

    def _text(self) -> str:
        return self.get_starttag_text() or ""

    def _plain(self, tag: str, attrs: Attributes) -> None:
        """A tag that stays: its pictures and styles become data."""
        changed = [(key, self._value(tag, key, value)) for key, value in attrs]
        self.out.append(self._text() if changed == attrs else _tag(tag, changed))
        link = dict(attrs).get("href") or "" if tag == "a" else ""
        if link and not link.startswith(("#", "http", "mailto:", "tel:", "data:")):
            self.app.notes[f"The link to {link[:80]!r} is kept; that page is not bundled."] = None
        if tag in ("iframe", "frame") and dict(attrs).get("src"):
            self.app.find(dict(attrs).get("src") or "", self.base, self.place)
            self.app.notes["A page in a frame is not bundled."] = None

    def _value(self, tag: str, key: str, value: str | None) -> str | None:
        if value is None:
            return None
        if key == "style":
            return declarations(value, self.base, self.app, self.place)
        if key in LOADED.get(tag, ()):
            return self._set(value) if key == "srcset" else self._data(value)
        return value

    def _data(self, reference: str) -> str:
        path = self.app.find(reference, self.base, self.place)
        if path is not None:
            return self.app.data_url(path)
        return "data:," if (self.place, reference.strip()[:200]) in self.app.remote else reference

    def _set(self, value: str) -> str:
        parts = [part.strip().split(None, 1) for part in value.split(",") if part.strip()]
        return ", ".join(" ".join([self._data(part[0]), *part[1:]]) for part in parts)

    def _link(self, attrs: Attributes) -> None:
        known = dict(attrs)
        kinds = set((known.get("rel") or "").lower().split())
        address = known.get("href") or ""
        if "stylesheet" in kinds:
            path = self.app.find(address, self.base, self.place)
            if path is not None:
                css = inlined(
                    self.app.text(path), path.parent, self.app, self.app.name(path), (path,)
                )
                start = _tag("style", [(k, v) for k, v in attrs if k == "media"])
                self.out.append(f"{start}\n{_safe_style(css)}\n</style>")
        elif kinds & ICONS:
            self.out.append(
                _tag("link", [(k, self._data(address) if k == "href" else v) for k, v in attrs])
            )
        elif kinds & DROPPED:
            self.app.notes[f"<link rel={'/'.join(sorted(kinds))}> was taken out."] = None
        else:
            self.out.append(self._text())

    def _script(self, script: Script) -> None:
        known = dict(script.attributes)
        if script.kind == "importmap":
            raise SkillFailed(
                "The page has an import map of its own; write paths instead of names."
            )
        source, code = known.get("src"), "".join(script.text)
        path = self.app.find(source, self.base, self.place) if source else None
        if source and path is None:
            return
        if script.kind == MODULE:
            self._module(path, code, script.attributes)
            return
        text = self.app.text(path) if path is not None else code
        element = _tag("script", _without(script.attributes)) + _safe_script(text) + "</script>"
        waits = path is not None and ("defer" in known or "async" in known)
        (self.last if waits else self.out).append(element)

    def _module(self, path: Path | None, code: str, attributes: Attributes) -> None:
        if self.compile is not None and path is not None:
            code, css = self.compile(path)
            self.out.append(f"<style>\n{_safe_style(css)}</style>\n" if css else "")
        elif path is not None:
            code = f'import "{self.modules.entry(path)}";'
        else:
            code = self.modules.inline(code, self.base, self.place)
        self.out.append(_tag("script", _without(attributes)) + _safe_script(code) + "</script>")


def _without(attributes: Attributes) -> Attributes:
    gone = ("src", "defer", "async", "integrity", "crossorigin", "nonce")
    return [(key, value) for key, value in attributes if key not in gone]


def _tag(name: str, attributes: Attributes) -> str:
    shown = (
        f" {key}" if value is None else f' {key}="{escape(value)}"' for key, value in attributes
    )
    return f"<{name}{''.join(shown)}>"


def _safe_script(code: str) -> str:
    """Code that cannot end its element: in strings, which alone hold such text, it is the same."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _safe_style(css: str) -> str:
    return css.replace("</style", "<\\/style")
