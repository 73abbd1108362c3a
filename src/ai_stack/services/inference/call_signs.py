"""Whether a text that is still coming may turn out to hold a call, and from where on.

It errs towards yes where a call is possible, and tells no as soon as it is not: what is held back
from a reader is what looks like a call, not every answer in JSON.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["yes", "maybe", "no"]
OVERLAP = 64
LONGEST_HEAD = 400

_MARKS = (
    "<tool_call",
    "<function_call",
    "<|tool_call",
    "<|python_",
    "<start_function_call>",
    "<function=",
    "<invoke name=",
    "<｜tool▁call",
    "[TOOL_CALLS]",
)
_SIGN = re.compile(
    "|".join(map(re.escape, _MARKS))
    + r"|(?:\A|(?<=\n))[ \t]*(?=[\[{]|```|`{1,2}\Z)|(?:\A|(?<=\n))Action:"
)
_PARTS = frozenset(mark[:length] for mark in _MARKS for length in range(1, len(mark)))
_LONGEST_PART = max(map(len, _PARTS))
_FENCE = re.compile(r"```(?P<info>[\w-]{0,20})(?P<rest>[ \t]*\n(?P<body>.*))?\Z", re.S)
_INFOS = ("", "json", "tool", "tool_call", "tool_code", "function_call", "xml", "python")
_CODE_INFOS = frozenset({"tool_call", "tool_code"})
_KEYS = ("name", "tool", "tool_name", "function_name", "function", "type", "id", "tool_calls")
_FIRST_KEY = re.compile(r"[\[{\s]*[\"'](?P<key>\w*)(?P<end>[\"']?)")
_NAME = re.compile(
    r"[\"'](?:name|tool|tool_name|function_name|function)[\"']\s*:\s*[\"'](?P<name>[^\"'\n]*)[\"']"
)
_WORD = re.compile(r"\[?\s*(?P<name>[A-Za-z_][\w.]*)(?P<end>\s*\(|\Z)?")


@dataclass(frozen=True, slots=True)
class Signs:
    """What a request's calls look like: whether a name is known, or begins one that is.

    `forced`: bare arguments are a call too.
    """

    known: Callable[[str], bool]
    begins: Callable[[str], bool]
    forced: bool = False

    def first(self, text: str, at: int) -> tuple[int, Verdict] | None:
        """Where, from `at` on, a call may begin, and how sure that is."""
        if at == 0 and (verdict := self._python(text.lstrip())) != "no":
            return 0, verdict
        for sign in _SIGN.finditer(text, at):
            if (verdict := self._verdict(text, sign)) != "no":
                return sign.start(), verdict
        part = _part_at_end(text, at)
        return None if part is None else (part, "maybe")

    def _verdict(self, text: str, sign: re.Match[str]) -> Verdict:
        if sign[0].strip():
            return "yes"
        head = text[sign.end() : sign.end() + LONGEST_HEAD + OVERLAP]
        return self._fence(head) if head.startswith("`") else self._bare(head)

    def _fence(self, head: str) -> Verdict:
        if head in ("`", "``"):
            return "maybe"
        fence = _FENCE.match(head)
        if fence is None or not any(info.startswith(fence["info"]) for info in _INFOS):
            return "no"
        if fence["rest"] is None:
            return "maybe"
        if fence["info"] in _CODE_INFOS:
            return "yes"
        body = fence["body"].lstrip()
        return "maybe" if not body else self._bare(body) if body[0] in "[{<" else "no"

    def _bare(self, head: str) -> Verdict:
        if self.forced and head.startswith("{"):
            return "yes"
        if head.startswith("<"):
            return "maybe" if len(head) < LONGEST_HEAD else "no"
        return max(self._json(head), self._python(head), key=("no", "maybe", "yes").index)

    def _json(self, head: str) -> Verdict:
        first = _FIRST_KEY.match(head)
        if first is None:
            return "no" if head.strip("[{ \t\r\n") else "maybe"
        if not first["end"]:
            return "maybe" if any(key.startswith(first["key"]) for key in _KEYS) else "no"
        if first["key"] not in _KEYS:
            return "no"
        name = _NAME.search(head)
        if name:
            return "yes" if self.known(name["name"]) else "no"
        return "maybe" if len(head) < LONGEST_HEAD else "no"

    def _python(self, head: str) -> Verdict:
        word = _WORD.match(head)
        if word is None or word["end"] is None:
            return "maybe" if head.strip() == "[" else "no"
        if word["end"]:
            return "yes" if self.known(word["name"]) else "no"
        return "maybe" if self.begins(word["name"]) else "no"


def _part_at_end(text: str, at: int) -> int | None:
    """Where a mark begins that the text ends in the midst of."""
    for start in range(max(at, len(text) - _LONGEST_PART), len(text)):
        if text[start] in "<[" and text[start:] in _PARTS:
            return start
    return None
