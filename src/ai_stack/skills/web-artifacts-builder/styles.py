"""Style sheets with all that they load put into them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import tinycss2

from .app import App

DEEPEST = 20


def inlined(css: str, base: Path, app: App, place: str, above: tuple[Path, ...] = ()) -> str:
    """The style sheet's text; `base` is the folder that its addresses start from."""
    rules = tinycss2.parse_stylesheet(css)
    return "".join(_rule(rule, base, app, place, above) for rule in rules)


def declarations(css: str, base: Path, app: App, place: str) -> str:
    """The same for a style attribute."""
    tokens = tinycss2.parse_component_value_list(css)
    _replace(tokens, base, app, place)
    return str(tinycss2.serialize(tokens))


def _rule(
    rule: tinycss2.ast.Node, base: Path, app: App, place: str, above: tuple[Path, ...]
) -> str:
    if rule.type == "at-rule" and rule.lower_at_keyword == "import":
        return _imported(rule, base, app, place, above)
    for part in (getattr(rule, "prelude", None), getattr(rule, "content", None)):
        _replace(part or [], base, app, place)
    return str(rule.serialize())


def _imported(
    rule: tinycss2.ast.AtRule, base: Path, app: App, place: str, above: tuple[Path, ...]
) -> str:
    """What @import brings, within the media that it is for."""
    tokens = [token for token in rule.prelude if token.type not in ("whitespace", "comment")]
    address = next(iter(_addresses(tokens[:1])), "")
    path = app.find(address, base, place)
    if path is None or path in above or len(above) > DEEPEST:
        return ""
    text = inlined(app.text(path), path.parent, app, app.name(path), (*above, path))
    media = str(tinycss2.serialize(tokens[1:])).strip()
    if media.startswith(("layer", "supports")):
        app.notes[f"{place}: `@import … {media[:60]}` is taken in without that."] = None
        media = ""
    return f"@media {media} {{\n{text}\n}}\n" if media else f"{text}\n"


def _addresses(tokens: Iterable[tinycss2.ast.Node]) -> Iterator[str]:
    for token in tokens:
        if token.type in ("url", "string"):
            yield token.value
        elif token.type == "function" and token.lower_name == "url":
            yield from (part.value for part in token.arguments if part.type == "string")


def _replace(tokens: Iterable[tinycss2.ast.Node], base: Path, app: App, place: str) -> None:
    """Data URLs in place of addresses, at any depth."""
    waiting = list(tokens)
    while waiting:
        token = waiting.pop()
        if token.type == "url":
            _set(token, base, app, place, 'url("{}")')
        elif token.type == "function" and token.lower_name in ("url", "image-set"):
            for part in token.arguments:
                if part.type == "string":
                    _set(part, base, app, place, '"{}"')
        waiting += getattr(token, "content", None) or getattr(token, "arguments", None) or []


def _set(token: tinycss2.ast.Node, base: Path, app: App, place: str, form: str) -> None:
    path = app.find(token.value, base, place)
    if path is not None:
        token.representation = form.format(app.data_url(path))
    elif app.remote.get((place, token.value.strip()[:200]), 0) is None:
        token.representation = form.format("data:,")
