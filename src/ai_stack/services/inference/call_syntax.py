"""Calls that a model wrote into its text, in the syntaxes of the models in the field.

What is marked as a call by a model's own tokens is one wherever it stands, but in quoted code. JSON
and Python without such marks are calls only where they stand alone, first or last, and name a known
function: text that shows JSON stays text.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from ai_stack.services.inference.call_bodies import (
    MARKED_NAME,
    Body,
    WrittenCall,
    calls_in,
    json_calls,
    leading_json,
    python_calls,
    xml_calls,
)
from ai_stack.services.inference.loose_json import LONGEST

MOST_PASSAGES = 64
Known: TypeAlias = Callable[[str], bool]

_MARK = (
    r"<(?:tool_call|function_call)s?>|<\|tool_calls?\|>|<\|tool_call>|<\|tool_calls?_start\|>"
    r"|<start_function_call>|<\|python_(?:tag|start)\|>|\[TOOL_CALLS\]"
    r"|<｜tool▁call▁begin｜>|<\|tool_call_begin\|>"
)
_OPEN = re.compile(rf"{_MARK}|(?=<function={MARKED_NAME}>)|(?=<invoke name=)|(?=\bfunctools\[)")
_NEXT = re.compile(_MARK)
_CLOSE = re.compile(
    r"</(?:tool_call|function_call)s?>|<\|/tool_calls?\|>|<tool_call\|>|<\|tool_calls?_end\|>"
    r"|<end_function_call>|<\|python_end\|>|<\|tool_call_end\|>|<｜tool▁call▁end｜>"
    r"|<\|eo[tm]_id\|>|<\|im_end\|>|</s>"
)
_LEFT_OVER = re.compile(
    r"<｜tool▁calls▁(?:begin|end)｜>|<\|tool_calls_section_(?:begin|end)\|>|</?function_calls>"
    r"|</?tool_calls?>|<｜end▁of▁sentence｜>|<\|eo[tm]_id\|>|<\|im_end\|>|</s>|<\|/tool_calls?\|>"
)
_THOUGHT = re.compile(r"\A\s*<think>(?:[^<]|<(?!/think>))*(?:</think>|\Z)")
_QUOTED = re.compile(r"^[ \t]*```[\w-]*[ \t]*$|(?<!`)`[^`\n]+`(?!`)", re.M)
_JSON_LINE = re.compile(r"^[ \t]*(?=[\[{])", re.M)
_ACTION = re.compile(
    r"^Action:[ \t]*(?P<name>[\w.-]+)[ \t]*\nAction Input:(?P<body>.*)\Z", re.M | re.S
)
_CODE_FENCES = frozenset({"tool_code", "tool_call"})
_JSON_FENCES = frozenset({"", "json", "tool", "function_call", *_CODE_FENCES})


@dataclass(frozen=True, slots=True)
class Passage:
    """The part of a content, from `start` to `end`, that stands for calls.

    `sure`: it cannot be meant as text, so that a call in it that is wrong is still a call.
    """

    start: int
    end: int
    calls: tuple[WrittenCall, ...]
    sure: bool = True


def written_calls(content: str, known: Known, *, cut: bool = False) -> list[Passage]:
    """The passages of a content that are calls; `known` tells the names of functions."""
    if len(content) > LONGEST:
        return []
    thought = _THOUGHT.match(content)
    body = Body(content, thought.end() if thought else 0, cut)
    passages = list(_marked(body))
    return passages or [found for found in [_bare(body, known)] if found][:1]


def without(content: str, passages: list[Passage]) -> str | None:
    """What a content says beside its calls; None for nothing."""
    parts, at = [], 0
    for passage in passages:
        parts.append(content[at : passage.start])
        at = passage.end
    rest = _LEFT_OVER.sub("", "".join([*parts, content[at:]])).strip()
    return rest or None


def _marked(body: Body) -> Iterator[Passage]:
    at, whole_fence = body.start, _whole_fence(body)
    for _ in range(MOST_PASSAGES):
        opened = _OPEN.search(body.text, at)
        if opened is None:
            return
        quoted = _QUOTED.search(body.text, at, opened.start() + 1)
        if quoted and not whole_fence:
            at = _quotation_end(body.text, quoted)
            continue
        passage = _passage(body, opened)
        at = max(passage.end, opened.end() + 1)
        if passage.calls:
            yield passage


def _whole_fence(body: Body) -> bool:
    text = body.text[body.start :].strip()
    return text.startswith("```") and text.endswith("```") and text.count("```") == 2


def _quotation_end(text: str, quoted: re.Match[str]) -> int:
    """Where quoted code ends: inline code with itself, a fence with the next one."""
    if not quoted[0].strip().startswith("```"):
        return quoted.end()
    closing = text.find("```", quoted.end())
    return len(text) if closing < 0 else closing + 3


def _passage(body: Body, opened: re.Match[str]) -> Passage:
    """The calls behind one opening mark, up to what ends them."""
    at = opened.end()
    values, end = leading_json(body.text, at)
    if values:
        calls = json_calls(values)
    elif xml := xml_calls(body.text, at):
        calls, end = xml
    else:
        end = _end(body.text, at)
        calls = calls_in(replace(body, text=body.text[at:end], start=0, cut=_cut(body, end)))
    closed = _CLOSE.match(body.text, _blank_end(body.text, end))
    return Passage(opened.start(), closed.end() if closed else end, tuple(calls))


def _cut(body: Body, end: int) -> bool:
    return body.cut and end >= len(body.text)


def _end(text: str, at: int) -> int:
    """Where a passage ends that does not tell it by its own form."""
    ends = [found.start() for found in (_CLOSE.search(text, at), _NEXT.search(text, at)) if found]
    return min(ends, default=len(text))


def _blank_end(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _bare(body: Body, known: Known) -> Passage | None:
    """The calls without marks that a content begins with, ends with, or is."""
    end = _told_end(body.text)
    start = _blank_end(body.text, body.start)
    for find in (_whole, _first, _fenced, _last, _action):
        found = find(replace(body, text=body.text[:end], start=start))
        if found and found.calls and all(_plausible(call, known) for call in found.calls):
            return found
    return None


def _plausible(call: WrittenCall, known: Known) -> bool:
    return call.whole and call.name is not None and known(call.name)


def _told_end(text: str) -> int:
    """The end without end tokens and orphaned closing tags."""
    end = len(text.rstrip())
    while found := _trailing_mark(text, end):
        end = len(text[:found].rstrip())
    return end


def _trailing_mark(text: str, end: int) -> int | None:
    at = max(text.rfind("<", 0, end), 0)
    closed = _CLOSE.fullmatch(text, at, end)
    return closed.start() if closed else None


def _whole(body: Body) -> Passage | None:
    text = body.text[body.start :]
    values, end = leading_json(body.text, body.start)
    if values and end == len(body.text):
        calls = json_calls(values)
    elif text[:1] not in ("{", "["):
        calls = python_calls(text)
    else:
        calls = calls_in(replace(body, text=text, start=0)) or python_calls(text)
    return Passage(body.start, len(body.text), tuple(calls)) if calls else None


def _first(body: Body) -> Passage | None:
    values, end = leading_json(body.text, body.start)
    if not values or body.text[end : end + 1] not in ("", "\n"):
        return None
    return Passage(body.start, end, tuple(json_calls(values)), sure=False)


def _fenced(body: Body) -> Passage | None:
    """The calls of a code fence at the end."""
    end = len(body.text) - 3
    start = body.text.rfind("```", body.start, max(end, 0))
    if start < 0 or not body.text.endswith("```") or body.text[start - 1 : start] not in ("", "\n"):
        return None
    info, _, inner = body.text[start + 3 : end].partition("\n")
    return Passage(
        start, len(body.text), tuple(_fence_calls(info.strip(), inner.strip())), sure=False
    )


def _fence_calls(info: str, inner: str) -> list[WrittenCall]:
    calls = python_calls(inner) if info in _CODE_FENCES else []
    if not calls and info in _JSON_FENCES and inner[:1] in ("{", "["):
        calls = calls_in(Body(inner, 0, cut=False))
    return calls


def _last(body: Body) -> Passage | None:
    for line in list(_JSON_LINE.finditer(body.text, body.start))[:8]:
        values, end = leading_json(body.text, line.end())
        if values and end >= len(body.text):
            return Passage(line.start(), end, tuple(json_calls(values)), sure=False)
    return None


def _action(body: Body) -> Passage | None:
    action = _ACTION.search(body.text, body.start)
    if action is None:
        return None
    call = WrittenCall(action["name"], action["body"].strip())
    return Passage(action.start(), action.end(), (call,), sure=False)
