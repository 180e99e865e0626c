"""The text of a feed file: parsed strictly, changed one key at a time with every other character kept."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ksql_lake.errors import FeedError
from ksql_lake.feeds.feed_columns import FeedProblem

MOST_BYTES = 1_000_000
"""The most bytes of a feed file; ten thousand renamed columns take half of it."""
_SPACE = re.compile(r"[ \t\r\n]*")
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)

_EXPECTED = {
    "Expecting value": "a value is expected here",
    "Expecting property name enclosed in double quotes": "a key in double quotes is expected here",
    "Expecting ':' delimiter": "':' is expected here, between a key and its value",
    "Expecting ',' delimiter": "',' is expected here, or the end of the object or list",
    "Extra data": "the file goes on after its object has ended",
    "Invalid control character at": "a line break or tab inside a text must be written \\n or \\t",
    "Illegal trailing comma before end of object": "the ',' before '}' is one too many",
    "Illegal trailing comma before end of array": "the ',' before ']' is one too many",
    "Unterminated string starting at": "this text has no closing double quote",
}
_OTHER_LANGUAGES = {
    "'": "texts need double quotes",
    "/": "JSON has no comments",
    "#": "JSON has no comments",
    "True": "write true",
    "False": "write false",
    "None": "write null",
    "NaN": "NaN is not JSON",
    "Infinity": "Infinity is not JSON",
}


def _refusal(text: str) -> FeedError:
    return FeedError("this is not a feed file", problems=[text])


class _Object(dict[str, Any]):
    """A JSON object that records the keys that occurred twice."""

    twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        found.twice = tuple(key for key, count in counts.items() if count > 1)
    return found


def _constant(word: str) -> float:
    raise _refusal(f"{word} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise _refusal(f"the number {text} is too large")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a feed file and the object it holds.

    Attributes:
        text: Every character of the file, without a byte order mark.
        value: The object.
        problems: Keys that occur twice.
        marked: Whether the file starts with a byte order mark.
    """

    text: str
    value: dict[str, Any]
    problems: tuple[FeedProblem, ...]
    marked: bool = False

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        return (codecs.BOM_UTF8 if self.marked else b"") + self.text.encode()

    def with_key(self, key: str, value: object, *, after: tuple[str, ...]) -> Document:
        """Return the document with one top-level key set and every other character kept.

        Args:
            key: The key; replaced if it exists, else added.
            value: Any value that `json.dumps` can write.
            after: Keys after which a new key is put: after the last of them that exists.
        """
        members = list(_members(self.text))
        new = json.dumps(value)
        for member in members:
            if member.key == key:
                return self._spliced(member.value_at, member.value_end, new)
        anchors = [member for member in members if member.key in after]
        if anchors:
            anchor = anchors[-1]
            colon = self.text[anchor.key_end : anchor.value_at]
            return self._spliced(
                anchor.value_end, anchor.value_end, f",{anchor.indent}{json.dumps(key)}{colon}{new}"
            )
        at = self.text.index("{") + 1
        return self._spliced(at, at, f"{json.dumps(key)}: {new}{', ' if members else ''}")

    def _spliced(self, start: int, end: int, new: str) -> Document:
        return parse_document(
            (codecs.BOM_UTF8 if self.marked else b"") + (self.text[:start] + new + self.text[end:]).encode()
        )


def parse_document(data: bytes) -> Document:
    """Read the bytes of one feed file.

    Raises:
        FeedError: They are not one JSON object in UTF-8; names line and column.
    """
    if len(data) > MOST_BYTES:
        raise _refusal(f"the file has more than {MOST_BYTES:,} bytes")
    marked = data.startswith(codecs.BOM_UTF8)
    text = _decoded(data.removeprefix(codecs.BOM_UTF8))
    if not text.strip():
        raise _refusal("the file is empty")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _refusal(_syntax_problem(error)) from None
    except RecursionError:
        raise _refusal("values nest far too deep for a feed") from None
    except ValueError:  # CPython refuses integers of more than 4300 digits.
        raise _refusal("a number has thousands of digits") from None
    if not isinstance(value, dict):
        raise _refusal("the file must hold one object: { ... }")
    return Document(text, value, tuple(_duplicates(value)), marked)


def _decoded(data: bytes) -> str:
    if data.startswith(_WIDE_MARKS) or b"\0" in data[:4]:
        raise _refusal("the file is not UTF-8 but UTF-16 or UTF-32; save it as UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refusal(f"line {line}: the file is not UTF-8; save it as UTF-8") from None


def _syntax_problem(error: json.JSONDecodeError) -> str:
    text = _EXPECTED.get(error.msg, error.msg[:1].lower() + error.msg[1:])
    rest, before = error.doc[error.pos :], error.doc[: error.pos].rstrip()
    reasons = [reason for start, reason in _OTHER_LANGUAGES.items() if rest.startswith(start)]
    if error.msg == "Extra data":
        reasons = []
    elif not rest.strip():
        reasons = ["the file ends too early"]
    elif before.endswith(",") and rest[0] in "]}":
        reasons = [f"the ',' before '{rest[0]}' is one too many"]
    where = f"line {error.lineno}, column {error.colno}"
    return f"{where}: {'; '.join([text, *reasons])}"


def _duplicates(value: object, path: str = "") -> Iterator[FeedProblem]:
    if isinstance(value, _Object):
        for key in value.twice:
            yield FeedProblem(f"{path}{key}", "this key occurs more than once; keep one of them")
        for key, inner in value.items():
            yield from _duplicates(inner, f"{path}{key}.")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _duplicates(inner, f"{path.removesuffix('.')}[{at}].")


@dataclass(frozen=True, slots=True)
class _Member:
    """The position of one `"key": value` of the top-level object in the text."""

    key: str
    indent: str
    key_end: int
    value_at: int
    value_end: int


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _members(text: str) -> Iterator[_Member]:
    """Yield the members of a text that has already been parsed as one object."""
    at = text.index("{") + 1
    while True:
        key_at = _after_space(text, at)
        if text[key_at] == "}":
            return
        key, key_end = _DECODER.raw_decode(text, key_at)
        value_at = _after_space(text, _after_space(text, key_end) + 1)
        _, value_end = _DECODER.raw_decode(text, value_at)
        yield _Member(key, text[at:key_at], key_end, value_at, value_end)
        at = _after_space(text, value_end)
        if text[at] == ",":
            at += 1
