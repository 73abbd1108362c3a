"""A reader of what models write in place of JSON; it refuses what it would have to guess.

A string that never ends, a value that is missing, a key that comes twice with two values: refused,
not filled in. Its time grows with the text, whose length is bounded.
"""

import json
import re
from collections.abc import Callable

from ai_stack.services.inference.loose_strings import (
    QUOTES,
    SPACE,
    Unreadable,
    string_end,
    unescaped,
)

DEEPEST = 64
LONGEST = 128 * 1024
MOST_STEPS = 20_000

_LEAKED_QUOTES = re.compile(r"<\|\"\|?>|<escape>")
_END_TOKEN = re.compile(r"<\|\w{1,24}\|>|</s>|<｜[^｜]{1,32}｜>")
_ESCAPED = re.compile(r"\{\s*\\\"")
_BLANK = "\ufeff \t\r\n"
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"[^\s,{}\[\]()\"'`:=][^,{}\[\]()\"'`\n]{0,400}")
_KEY_WORD = re.compile(r"[A-Za-z_$][\w$.-]{0,100}")
_LITERALS = {"true": True, "false": False, "null": None, "none": None}
_NO_VALUES = frozenset({"nan", "infinity", "-infinity", "undefined", "inf"})


def strictly_read(text: str) -> object:
    """The value of a JSON text; raises Unreadable for anything that is not JSON."""
    try:
        value: object = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Unreadable("no JSON") from None
    return value


def loosely_read(text: str, *, cut: bool = False) -> tuple[object, set[str]]:
    """The value that a text stands for, and the kinds of faults found in it.

    `cut`: the text was broken off, so that what is not closed is not complete either.
    """
    if len(text) > LONGEST:
        raise Unreadable("too long to be read")
    faults: set[str] = set()
    text = _undressed(text, faults)
    for guess in (False, True):
        reader = LooseReader(text, guess=guess, cut=cut)
        try:
            return reader.document(), faults | reader.faults
        except Unreadable:
            continue
    raise Unreadable("no JSON, nor near it")


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _undressed(text: str, faults: set[str]) -> str:
    """Without code fence, end tokens and leaked quotation tokens."""
    text = _without_end_tokens(text.strip(_BLANK))
    if text.startswith("```") and "\n" in text:
        faults.add("code-fence")
        text = text.partition("\n")[2].removesuffix("```").strip(_BLANK)
    if _LEAKED_QUOTES.search(text):
        faults.add("leaked-quote-token")
        text = _LEAKED_QUOTES.sub('"', text)
    if _ESCAPED.match(text):
        faults.add("escaped-quotes")
        text = _unescaped_once(text)
    return text


def _unescaped_once(text: str) -> str:
    """A text that is the inside of a JSON string, as that string; any other as it is."""
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _without_end_tokens(text: str) -> str:
    for _ in range(8):
        text = text.rstrip(_BLANK + ";")
        at = text.rfind("<", len(text) - 40) if text.endswith(">") else -1
        if at < 0 or not _END_TOKEN.fullmatch(text, at):
            break
        text = text[:at]
    return text


class LooseReader:
    """Reads values of one text from `at` on; `faults` tells what it met.

    With `guess` a quotation mark ends a string only where JSON could go on after it.
    """

    def __init__(self, text: str, at: int = 0, *, guess: bool = False, cut: bool = False) -> None:
        self.text = text
        self.at = at
        self.faults: set[str] = set()
        self._guess = guess
        self._cut = cut
        self._depth = 0
        self._steps = 0

    def document(self) -> object:
        """The one value of the whole text; of several, the one that is not empty."""
        values = [self.value()]
        while self._next():
            if self._next() in "}])":
                self._step("extra-closer")
            elif self._next() in "{[":
                self.faults.add("repeated")
                values.append(self.value())
            else:
                raise Unreadable("text behind the value")
        told = [value for value in values if value not in ({}, [])]
        if any(value != told[0] for value in told):
            raise Unreadable("several values")
        return told[0] if told else values[0]

    def value(self, within: str = "") -> object:
        """The value at `at`, which then stands behind it; `within`: the closer of its holder."""
        following = self._next()
        if following == "{":
            return self._nested(self._object)
        if following in ("[", "("):
            return self._nested(self._array)
        return self._string(within) if following in QUOTES else self._scalar()

    def _nested(self, read: Callable[[], object]) -> object:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable("nested too deeply")
        value = read()
        self._depth -= 1
        return value

    def _object(self) -> object:
        self.at += 1
        if self._next() == "{":
            return self._doubled()
        members: dict[str, object] = {}
        while not self._closed("}", complete=True):
            key = self._key()
            if self._next() not in (":", "="):
                raise Unreadable("a key without a value")
            self._step("equals-sign" if self._next() == "=" else None)
            value = self.value("}")
            if key in members and members[key] != value:
                raise Unreadable("a key with two values")
            members[key] = value
            self._separated("}")
        return members

    def _doubled(self) -> object:
        """The object within `{{…}}`."""
        self.faults.add("double-braces")
        value = self._nested(self._object)
        self._closed("}", complete=True)
        return value

    def _array(self) -> object:
        closer = "]" if self.text[self.at] == "[" else ")"
        if closer == ")":
            self.faults.add("python-literal")
        self.at += 1
        items: list[object] = []
        while not self._closed(closer, complete=True):
            items.append(self.value(closer))
            self._separated(closer)
        return items

    def _separated(self, closer: str) -> None:
        """Steps over the comma behind a member, or finds that there is none."""
        following = self._next()
        if following == ",":
            self._step(None)
            if self._next() in ("}", "]", ")"):
                self.faults.add("trailing-comma")
            elif not self._next():
                raise Unreadable("a member is missing")
        elif following not in ("", "}", "]", ")", closer):
            self._without_comma(closer, following)

    def _without_comma(self, closer: str, following: str) -> None:
        """A comma may be missing between what is plainly apart."""
        apart = self.text[self.at - 1].isspace() or following in "{["
        if not apart or (closer == "}" and following not in QUOTES):
            raise Unreadable("a comma is missing")
        self.faults.add("missing-comma")

    def _closed(self, closer: str, *, complete: bool) -> bool:
        """Steps over the closer; one that is missing is taken as given where nothing else is."""
        following = self._next()
        if following == closer:
            self.at += 1
            return True
        if following in ("}", "]", ")") and self._depth > 1:
            self.faults.add("missing-closer")
            return True
        if following:
            return False
        if self._cut or not complete:
            raise Unreadable("broken off")
        self.faults.add("missing-closer")
        return True

    def _key(self) -> str:
        following = self._next()
        if following in QUOTES:
            return self._string(":")
        word = _KEY_WORD.match(self.text, self.at)
        if word is None:
            raise Unreadable("a key is missing")
        self.faults.add("unquoted-key")
        self.at = word.end()
        return word[0]

    def _string(self, within: str) -> str:
        parts = [self._literal(within)]
        while self._next() == "+" and within != ":":
            self._step("concatenation")
            if self._next() not in QUOTES:
                raise Unreadable("nothing to add")
            parts.append(self._literal(within))
        return "".join(parts)

    def _literal(self, within: str) -> str:
        start, tripled = self.at, self.text.startswith('"""', self.at)
        end, self.at = string_end(self.text, start, within, guess=self._guess)
        body = self.text[start + (3 if tripled else 1) : end]
        self._tell_of(self.text[start], body, tripled)
        return unescaped(body, self.faults)

    def _tell_of(self, quote: str, body: str, tripled: bool) -> None:
        if quote != '"':
            self.faults.add("single-quotes" if quote in "'`" else "smart-quotes")
        if tripled:
            self.faults.add("triple-quotes")
        elif self._guess and re.search(r'(?<!\\)"', body):
            self.faults.add("inner-quotes")
        if re.search(r"[\x00-\x1f]", body):
            self.faults.add("control-character")

    def _scalar(self) -> object:
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            if self._next() in ("", ",", "}", "]", ")"):
                return self._number(number[0])
            self.at = number.start()
        word = _WORD.match(self.text, self.at)
        text = word[0].strip() if word else ""
        if word is None or text.lower() in _NO_VALUES:
            raise Unreadable("a value is missing")
        self.at = word.end()
        if text.lower() in _LITERALS:
            return self._named(text)
        self.faults.add("unquoted-value")
        return text

    def _number(self, text: str) -> object:
        if text.startswith("+"):
            self.faults.add("plus-sign")
        return strictly_read(text.lstrip("+"))

    def _named(self, text: str) -> object:
        if text not in ("true", "false", "null"):
            self.faults.add("python-literal")
        return _LITERALS[text.lower()]

    def _next(self) -> str:
        """The next character that counts; "" at the end. `at` then stands at it."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Unreadable("too much to be read")
        space = SPACE.match(self.text, self.at)
        if space and space.end() > self.at:
            if re.search(r"[/#*]", space[0]):
                self.faults.add("comment")
            if "\\" in space[0]:
                self.faults.add("escape-outside-string")
            self.at = space.end()
        return self.text[self.at : self.at + 1]

    def _step(self, fault: str | None) -> None:
        if fault:
            self.faults.add(fault)
        self.at += 1
