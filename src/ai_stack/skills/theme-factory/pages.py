"""A theme in HTML: custom properties, and rules for what a page consists of."""

import re

from .palette import Theme

MARK = "data-theme-factory"
OLD = re.compile(rf"[ \t]*<style {MARK}=\"[^\"]*\">.*?</style>\n?", re.DOTALL)
HEAD_END = re.compile(r"</head\s*>", re.IGNORECASE)
HEAD_START = re.compile(r"<head\b[^>]*>|<html\b[^>]*>|<!doctype[^>]*>", re.IGNORECASE)
RULES = """\
html { color-scheme: %(mode)s; }
body { background: var(--background); color: var(--text); font-family: var(--body-font); }
h1, h2, h3, h4, h5, h6 { color: var(--primary); font-family: var(--heading-font); }
a { color: var(--primary); }
a:hover, a:focus-visible { color: var(--accent); }
small, figcaption, caption { color: var(--muted); }
mark { background: var(--primary); color: var(--on-primary); }
button, input[type=submit] { background: var(--primary); color: var(--on-primary);
  border: 1px solid var(--primary); font-family: inherit; }
input, select, textarea { background: var(--surface); color: var(--text);
  border: 1px solid var(--muted); font-family: inherit; }
pre, code, blockquote, th { background: var(--surface); color: var(--text); }
blockquote { border-left: 4px solid var(--accent); }
table { border-collapse: collapse; }
th, td { border: 1px solid var(--border); }
hr { border: 0; border-top: 1px solid var(--border); }
"""


def style_sheet(theme: Theme) -> str:
    """The theme as CSS."""
    colors = theme.colors.model_dump()
    lines = [f"  --{name.replace('_', '-')}: {color.lower()};" for name, color in colors.items()]
    fonts = {"heading-font": theme.heading_font, "body-font": theme.body_font}
    lines += [f'  --{name}: "{font}", {_generic(font)};' for name, font in fonts.items()]
    return ":root {\n" + "\n".join(lines) + "\n}\n" + RULES % {"mode": theme.mode}


def themed(page: str, theme: Theme) -> str:
    """The page with the theme, which stands after its own styles; a former one is gone."""
    page = OLD.sub("", page)
    style = f'<style {MARK}="{theme.name}">\n{style_sheet(theme)}</style>\n'
    if found := HEAD_END.search(page):
        return page[: found.start()] + style + page[found.start() :]
    starts = list(HEAD_START.finditer(page))
    place = starts[-1].end() if starts else 0
    return page[:place] + ("\n" if place else "") + style + page[place:]


def _generic(font: str) -> str:
    serifs = ("georgia", "times", "palatino", "serif", "garamond", "cambria")
    return "serif" if font.lower().startswith(serifs) else "sans-serif"
