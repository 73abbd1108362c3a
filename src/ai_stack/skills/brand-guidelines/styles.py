"""CSS, alone or within HTML: colours and fonts of rules, found and replaced in place."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import tinycss2
from tinycss2 import ast
from tinycss2.color3 import RGBA, parse_color

from ai_stack.skill import SkillFailed

from .brand import Report
from .colors import from_rgb

MAX_DEPTH, MAX_CHARACTERS = 20, 8 << 20
HEADING = re.compile(r"(^|[\s,>+~.#])(h[1-6]|title|heading)\b", re.IGNORECASE)
ROOTS = ("body", "html", ":root", "*")
KEPT = {"transparent", "currentcolor", "inherit", "none", "initial", "unset"}
STYLE = re.compile(r"(<style\b[^>]*>)(.*?)(</style\s*>)", re.IGNORECASE | re.DOTALL)
ATTRIBUTE = re.compile(r"(<(\w+)\b[^<>]*?\sstyle\s*=\s*)(\"[^\"]*\"|'[^']*')", re.IGNORECASE)
COLORED = ("color", "background", "border", "outline", "fill", "stroke", "shadow", "decoration")


@dataclass(slots=True)
class Scope:
    """What holds for a rule: its name, and the background that its text stands on."""

    where: str
    heading: bool
    large: bool
    background: str


class Styles:
    """One file's styles, brought into a brand or only looked at."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.page = report.brand.colors["background"]
        self.variables: dict[str, str] = {}

    def css(self, text: str) -> str:
        """A style sheet in the brand's colours and fonts."""
        if len(text) > MAX_CHARACTERS:
            raise SkillFailed("A style sheet is larger than 8 MiB.")
        before = self.report.changes
        try:
            rules = tinycss2.parse_stylesheet(text)
            for selector, declarations in _plain(rules):
                self._note(selector, declarations)
            self._rules(rules, 0)
            new = str(tinycss2.serialize(rules))
        except RecursionError:
            raise SkillFailed("A style sheet is nested too deep.") from None
        return new if self.report.changes > before else text

    def html(self, text: str) -> str:
        """A page whose style elements and attributes are in the brand's colours and fonts."""
        text = STYLE.sub(lambda m: m[1] + self.css(m[2]) + m[3], text)
        return ATTRIBUTE.sub(self._attribute, text)

    def _attribute(self, match: re.Match[str]) -> str:
        quote, content, before = match[3][0], match[3][1:-1], self.report.changes
        tokens = tinycss2.parse_blocks_contents(content)
        tag = match[2].lower()
        line = match.string.count("\n", 0, match.start()) + 1
        self._declarations(
            [t for t in tokens if t.type == "declaration"], tag, f"{tag}, line {line}"
        )
        text = str(tinycss2.serialize(tokens)).replace(quote, "'" if quote == '"' else '"')
        return f"{match[1]}{quote}{text}{quote}" if self.report.changes > before else match[0]

    def _note(self, selector: str, declarations: Sequence[ast.Declaration]) -> None:
        """Keep what other rules build upon: variables and the page's background."""
        for declaration in declarations:
            colors = [c for t in declaration.value if (c := _opaque(t))]
            if declaration.name.startswith("--") and colors:
                self.variables[declaration.name] = colors[0]
        for declaration in declarations:
            if declaration.lower_name.startswith("background") and selector in ROOTS:
                self.page = self._first(declaration.value) or self.page

    def _rules(self, rules: Iterable[ast.Node], depth: int) -> None:
        for rule in rules:
            if rule.type == "qualified-rule":
                selector = " ".join(tinycss2.serialize(rule.prelude).split())
                tokens = tinycss2.parse_blocks_contents(rule.content)
                declarations = [t for t in tokens if t.type == "declaration"]
                where = f"{selector[:80]}, line {rule.source_line}"
                self._declarations(declarations, selector, where)
                if depth < MAX_DEPTH:
                    self._rules((t for t in tokens if t.type != "declaration"), depth + 1)
                rule.content = tokens
            elif rule.type == "at-rule" and rule.content is not None and depth < MAX_DEPTH:
                self._at_rule(rule, depth)

    def _at_rule(self, rule: ast.AtRule, depth: int) -> None:
        if rule.lower_at_keyword in ("media", "supports", "layer", "container"):
            inner = tinycss2.parse_rule_list(rule.content)
            self._rules(inner, depth + 1)
            rule.content = inner

    def _declarations(
        self, declarations: Sequence[ast.Declaration], selector: str, where: str
    ) -> None:
        grounds = [d for d in declarations if d.lower_name in ("background", "background-color")]
        ground = next((c for d in grounds if (c := self._first(d.value))), None)
        heading = bool(HEADING.search(selector))
        large = heading or _is_large(declarations)
        inks = [c for d in declarations if d.lower_name == "color" if (c := self._first(d.value))]
        if inks:
            self.report.contrast(inks[-1], ground or self.page, where, large=large)
        new = self.report.becomes(ground or self.page)
        for declaration in declarations:
            on = new if declaration.lower_name == "color" else ""
            self._declaration(declaration, Scope(where, heading, large, on))

    def _declaration(self, declaration: ast.Declaration, scope: Scope) -> None:
        name = declaration.lower_name
        if name in ("font-family", "font"):
            declaration.value = self._fonts(declaration.value, scope, whole=name == "font-family")
        elif name.startswith("--") or any(word in name for word in COLORED):
            declaration.value = self._colors(declaration.value, scope)

    def _colors(self, tokens: Sequence[ast.Node], scope: Scope) -> list[ast.Node]:
        found: list[ast.Node] = []
        for token in tokens:
            color = _color(token)
            if color is not None:
                old, on = from_rgb(color[:3]), scope.background or None
                new = self.report.color(old, scope.where, on, scope.large)
                found.append(token if new == old else _written(new, color[3]))
                continue
            if token.type == "function":
                token.arguments = self._colors(token.arguments, scope)
            found.append(token)
        return found

    def _fonts(self, tokens: Sequence[ast.Node], scope: Scope, *, whole: bool) -> list[ast.Node]:
        """The first family of a list becomes the brand's, further ones that are no generic go."""
        parts = _families(tokens)
        names = [tinycss2.serialize(part).strip() for part in parts]
        if not whole:
            return self._shorthand(tokens, scope)
        new = [self.report.font(name, scope.where, heading=scope.heading) for name in names]
        if new == names:
            return list(tokens)
        ordered = list(dict.fromkeys(_quoted(name) for name in new))
        return list(tinycss2.parse_component_value_list(" " + ", ".join(ordered)))

    def _shorthand(self, tokens: Sequence[ast.Node], scope: Scope) -> list[ast.Node]:
        """`font: bold 12px/1.5 Name, serif`: what follows the size are families."""
        sizes = [n for n, t in enumerate(tokens) if t.type in ("dimension", "percentage", "number")]
        if not sizes:
            return list(tokens)
        end = sizes[-1] + 1
        return [*tokens[:end], *self._fonts(tokens[end:], scope, whole=True)]

    def _first(self, tokens: Sequence[ast.Node]) -> str | None:
        """The first colour of a value that hides what is behind it; variables are followed."""
        for token in tokens:
            if found := _opaque(token):
                return found
            if token.type == "function" and token.lower_name == "var":
                name = tinycss2.serialize(token.arguments).strip().split(",")[0]
                return self.variables.get(name)
        return None


def _plain(rules: Iterable[ast.Node]) -> Iterator[tuple[str, list[ast.Declaration]]]:
    for rule in rules:
        if rule.type == "qualified-rule":
            tokens = tinycss2.parse_blocks_contents(rule.content)
            selector = tinycss2.serialize(rule.prelude).strip().lower()
            yield selector, [t for t in tokens if t.type == "declaration"]


def _color(token: ast.Node) -> RGBA | None:
    if token.type not in ("ident", "hash", "function"):
        return None
    if token.type == "ident" and token.lower_value in KEPT:
        return None
    found = parse_color(token)
    return found if isinstance(found, RGBA) else None


def _opaque(token: ast.Node) -> str | None:
    color = _color(token)
    return from_rgb(color[:3]) if color is not None and color[3] >= 0.999 else None


def _written(color: str, alpha: float) -> ast.Node:
    text = color.lower() if alpha >= 0.999 else f"{color.lower()}{round(alpha * 255):02x}"
    return tinycss2.parse_one_component_value(text)


def _families(tokens: Sequence[ast.Node]) -> list[list[ast.Node]]:
    found: list[list[ast.Node]] = [[]]
    for token in tokens:
        if token.type == "literal" and token.value == ",":
            found.append([])
        else:
            found[-1].append(token)
    return found


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name and name[0] not in "\"'" and "(" not in name else name


def _is_large(declarations: Sequence[ast.Declaration]) -> bool:
    """Whether a rule sets text of at least 24 pixels, or 18.66 in bold."""
    size, bold = 0.0, False
    for declaration in declarations:
        for token in declaration.value:
            if declaration.lower_name == "font-size" and token.type == "dimension":
                scale = {"px": 1.0, "pt": 4 / 3, "rem": 16.0, "em": 16.0}.get(token.lower_unit, 0.0)
                size = float(token.value) * scale
            elif declaration.lower_name == "font-weight":
                bold = tinycss2.serialize([token]).lower() in ("bold", "700", "800", "900")
    return size >= 24 or (bold and size >= 18.66)
