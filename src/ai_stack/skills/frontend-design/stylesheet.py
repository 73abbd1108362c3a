"""The styles of pages and components: custom properties from tokens, and rules that use them."""

from collections.abc import Iterator
from dataclasses import asdict

from .tokens import STACKS, Palette, Tokens, dark, light

RULES = """
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font-family: var(--font); font-size: var(--size-0); line-height: 1.6; overflow-wrap: anywhere;
}
h1, h2, h3 { font-family: var(--heading-font); line-height: 1.15; margin: 0; text-wrap: balance; }
h1 { font-size: var(--size-4); } h2 { font-size: var(--size-3); } h3 { font-size: var(--size-1); }
p { margin: 0 0 calc(var(--space) * 1.5); max-width: 70ch; }
p:last-child { margin-bottom: 0; }
a { color: var(--link); }
img { display: block; max-width: 100%; height: auto; border-radius: var(--radius); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; }
.skip { position: absolute; left: -999rem; }
.skip:focus {
  left: var(--space); top: var(--space); padding: var(--space); background: var(--ground);
  z-index: 2;
}
.inner { max-width: var(--width); margin: 0 auto; padding: 0 calc(var(--space) * 2.5); }
.section { padding: calc(var(--space) * 7) 0; }
.section > .inner > * + * { margin-top: calc(var(--space) * 3); }
.lead { color: var(--muted); font-size: var(--size-1); max-width: 62ch; }
.bar { border-bottom: 1px solid var(--line); }
.bar .inner, .foot .inner {
  display: flex; flex-wrap: wrap; gap: calc(var(--space) * 2); align-items: center;
  justify-content: space-between; padding-top: calc(var(--space) * 2);
  padding-bottom: calc(var(--space) * 2);
}
.brand { font-family: var(--heading-font); font-weight: 700; font-size: var(--size-1); }
.bar ul, .navigation ul {
  display: flex; flex-wrap: wrap; gap: var(--space) calc(var(--space) * 2.5); list-style: none;
  margin: 0; padding: 0;
}
.bar li a, .navigation a, .foot a { display: inline-block; padding: 4px 0; }
.foot { border-top: 1px solid var(--line); color: var(--muted); font-size: var(--size--1); }
.actions { display: flex; flex-wrap: wrap; gap: calc(var(--space) * 1.5); }
.button {
  display: inline-block; padding: calc(var(--space) * 1.25) calc(var(--space) * 2.5);
  min-height: 44px; font: inherit; font-weight: 600; line-height: 1.35; text-decoration: none;
  border: 2px solid var(--accent); border-radius: var(--radius); cursor: pointer;
  background: var(--accent); color: var(--on-accent);
}
.button:hover { filter: brightness(1.08); }
.button:disabled { opacity: .55; cursor: not-allowed; }
.button.quiet { background: transparent; color: var(--link); border-color: currentColor; }
.grid {
  display: grid; gap: calc(var(--space) * 2.5); margin: 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr));
}
.card {
  background: var(--surface); border: 1px solid var(--line); border-radius: var(--radius);
  padding: calc(var(--space) * 2.5); min-width: 0;
}
.card > * + * { margin-top: calc(var(--space) * 1.25); }
.value { font-family: var(--heading-font); font-size: var(--size-3); font-weight: 700; margin: 0; }
.hero .inner {
  display: grid; gap: calc(var(--space) * 4); align-items: center;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
}
.hero .inner > * { margin-top: 0; min-width: 0; }
.words > * + * { margin-top: calc(var(--space) * 2.5); }
.steps .grid { counter-reset: step; }
.steps .card::before {
  counter-increment: step; content: counter(step); display: inline-block;
  color: var(--link); font-weight: 700; font-size: var(--size-2);
}
dl.grid > div { border-left: 3px solid var(--accent); padding-left: calc(var(--space) * 2); }
dl dt { color: var(--muted); } dl dd { margin: 0; }
figure, blockquote { margin: 0; }
figcaption { color: var(--muted); margin-top: var(--space); }
details {
  border: 1px solid var(--line); border-radius: var(--radius);
  padding: calc(var(--space) * 1.5) calc(var(--space) * 2);
}
.section > .inner > details + details { margin-top: var(--space); }
summary { cursor: pointer; font-weight: 600; min-height: 24px; }
details[open] summary { margin-bottom: var(--space); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: var(--radius); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: calc(var(--space) * 1.25) calc(var(--space) * 2); }
.scroll th, .scroll td { overflow-wrap: normal; min-width: 7rem; }
thead th { background: var(--surface); } tbody tr { border-top: 1px solid var(--line); }
form { max-width: 36rem; display: grid; gap: calc(var(--space) * 2.5); justify-items: start; }
.field { display: grid; gap: calc(var(--space) * .75); width: 100%; }
.field label { font-weight: 600; }
.hint { color: var(--muted); font-size: var(--size--1); }
.check { display: flex; gap: var(--space); align-items: flex-start; }
.check input { width: 24px; height: 24px; margin: 0; flex: none; accent-color: var(--accent); }
input, select, textarea {
  font: inherit; color: var(--ink); background: var(--ground); width: 100%; min-height: 44px;
  border: 1px solid var(--line); border-radius: var(--radius); padding: var(--space);
}
.cta { background: var(--accent); color: var(--on-accent); }
.cta .lead { color: inherit; }
.cta .button { background: var(--on-accent); color: var(--accent); border-color: var(--on-accent); }
.cta .button.quiet { background: transparent; color: var(--on-accent); }
.cta :focus-visible { outline-color: var(--on-accent); }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
"""
COMPONENT_RULES = """
.alert {
  border: 1px solid var(--line); border-left: 6px solid var(--accent); background: var(--surface);
  border-radius: var(--radius); padding: calc(var(--space) * 2);
}
.badge {
  display: inline-block; background: var(--accent); color: var(--on-accent);
  border-radius: 99rem; padding: 2px 12px; font-size: var(--size--1); font-weight: 600;
}
.navigation [aria-current] { font-weight: 700; text-decoration-thickness: 3px; }
.tabs [role=tablist] { display: flex; flex-wrap: wrap; border-bottom: 2px solid var(--line); }
.tabs [role=tab] {
  font: inherit; color: var(--ink); background: none; border: 0; cursor: pointer;
  border-bottom: 4px solid transparent; padding: calc(var(--space) * 1.25) calc(var(--space) * 2);
  min-height: 44px;
}
.tabs [aria-selected=true] { border-color: var(--accent); font-weight: 700; }
.tabs [role=tabpanel] { padding: calc(var(--space) * 2) 0; }
dialog {
  color: var(--ink); background: var(--ground); border: 1px solid var(--line);
  border-radius: var(--radius); padding: calc(var(--space) * 3); max-width: min(32rem, 92vw);
}
dialog::backdrop { background: rgb(0 0 0 / .55); }
"""


def properties(tokens: Tokens) -> str:
    """The tokens as custom properties, for light and for dark."""
    head = ":root {\n" + "".join(f"  {line};\n" for line in _properties(tokens)) + "}\n"
    if not tokens.dark:
        return head
    colours = "".join(f"    {line};\n" for line in _colours(dark(tokens), "dark"))
    return f"{head}@media (prefers-color-scheme: dark) {{\n  :root {{\n{colours}  }}\n}}\n"


def stylesheet(tokens: Tokens, *, component: bool = False) -> str:
    """All styles of a page, or of a component's demonstration."""
    return properties(tokens) + RULES + (COMPONENT_RULES if component else "")


def _properties(tokens: Tokens) -> Iterator[str]:
    yield from _colours(light(tokens), "light" if not tokens.dark else "light dark")
    yield f"--font: {STACKS[tokens.font]}"
    yield f"--heading-font: {STACKS[tokens.heading_font or tokens.font]}"
    yield f"--radius: {tokens.radius}px"
    yield f"--space: {tokens.space}px"
    yield f"--width: {tokens.width}px"
    for step in range(-1, 5):
        size = tokens.scale**step
        grows = f"clamp({min(size, 1 + (size - 1) * 0.72):.3f}rem, {size * 0.6:.3f}rem + 1.4vw"
        shown = f"{max(size, 0.875):.3f}rem" if step < 1 else f"{grows}, {size:.3f}rem)"
        yield f"--size-{step}: {shown}"


def _colours(palette: Palette, scheme: str) -> Iterator[str]:
    yield f"color-scheme: {scheme}"
    for name, colour in asdict(palette).items():
        yield f"--{name.replace('_', '-')}: {colour}"
