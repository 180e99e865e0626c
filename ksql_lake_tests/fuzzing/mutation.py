"""Valid bytes into hostile ones: by bytes, by the words of the format, and by the nodes of the JSON inside.

Everything follows from the `Random` given, so a seed repeats a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

LONGEST = 2_000_000
"""Bytes that no mutation goes beyond: what is larger is tried by tests of its own."""

HOSTILE_TEXTS = [
    *("", "..", "../../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "\0", "a\0b", "`", "``", "'", "''", '"'),
    *("; DROP TABLE x;", "--", "/*", "year", "ROWTIME", "row", "columns", "\n", "\r\n", "\x1b[2J", "\u202e"),
    *("\u2028", "😀", "İ", "ß", "A" * 5000, "a\nb", "v1", "v0", "v01", "v-1", "v٤", "v1\n", "2025-02-30"),
    *("0001-01-01", "9999-12-31", "+002025-01-01", "NaN", "Infinity", "-Infinity", "1e999", "=", "==", "AA=="),
    *("2025-01-06T00:00:00.000", "24:00:00", "year=2025/month=01/day=06/data_20250106_000000_000001.parquet"),
    *("version=v1/../../x.parquet", "ARRAY<", "MAP<STRING, ", "STRUCT<", "DECIMAL(99, 1)", "BIGINT KEY"),
]
HOSTILE_NUMBERS = [
    *("0", "-0", "-1", "1", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808"),
    *("1e5", "1E400", "-1e400", "1e-400", "0.1", "1.0", "9" * 40, "9" * 5000, "00", "01", "1.", "0x10", "1e"),
    *("NaN", "Infinity", "-Infinity", "253402300800000", "-62135596800001", "1e308", "4.9e-324"),
]
HOSTILE_VALUES = [
    *(
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "[[]]",
        '{"a":1,"a":2}',
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\u0000"',
    ),
    *HOSTILE_NUMBERS,
    *(json.dumps(text) for text in HOSTILE_TEXTS),
]
WORDS = [
    *(b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"\n", b"\r\n", b"\0", b"\xff", b"\xed\xa0\x80"),
    *(b"\xef\xbb\xbf", b"]}},\n", b"}}]", b",\n", b'{"row":{"columns":[', b'{"header":', b'"tombstone":true'),
    *(b'{"finalMessage":"Query Completed"}]', b'{"finalMessage":"Limit Reached"}]', b'"errorMessage"', b"`"),
    *(text.encode() for text in HOSTILE_VALUES),
]

Mutation = Callable[[bytes, Random], bytes]


def mutated(data: bytes, random: Random, *, rounds: int = 4) -> bytes:
    """Return the bytes after one to `rounds` mutations."""
    for _ in range(random.randint(1, rounds)):
        data = random.choice(_MUTATIONS)(data, random)[:LONGEST]
    return data


def mutated_json(data: bytes, random: Random, *, rounds: int = 4) -> bytes:
    """Return a JSON document after mutations of its nodes, half of the time also of its bytes."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutated(data, random)
    for _ in range(random.randint(1, rounds)):
        document = _edited(document, random)
    text = _written(document)[:LONGEST]
    return mutated(text, random, rounds=2) if random.random() < 0.3 else text


class Literal(str):
    """A JSON text that is written as it is, valid or not."""

    __slots__ = ()


def _written(document: Any) -> bytes:
    """Write JSON in which `Literal`s stand for themselves, and pairs for objects with keys twice."""
    match document:
        case Literal():
            return document.encode("utf-8", "surrogatepass")
        case dict():
            members = (_key(key) + b":" + _written(value) for key, value in document.items())
            return b"{" + b",".join(members) + b"}"
        case tuple():
            return b"{" + b",".join(_key(key) + b":" + _written(value) for key, value in document) + b"}"
        case list():
            return b"[" + b",".join(map(_written, document)) + b"]"
        case _:
            return json.dumps(document).encode()


def _key(key: str) -> bytes:
    return json.dumps(key).encode()


def _edited(document: Any, random: Random) -> Any:
    """Change one node of a document, chosen by walking down from its root."""
    if isinstance(document, dict) and document and random.random() < 0.85:
        key = random.choice(list(document))
        return _edited_object(document, key, random)
    if isinstance(document, list) and document and random.random() < 0.85:
        at = random.randrange(len(document))
        return [*document[:at], *_edited_item(document[at], random), *document[at + 1 :]]
    return _hostile(document, random)


def _edited_object(document: dict[str, Any], key: str, random: Random) -> Any:
    match random.randrange(10):
        case 0:
            return {name: value for name, value in document.items() if name != key}
        case 1:
            new = random.choice(HOSTILE_TEXTS)
            return {new if name == key else name: value for name, value in document.items()}
        case 2:
            return (*document.items(), (key, _hostile(document[key], random)))
        case 3:
            return {**document, random.choice(HOSTILE_TEXTS): document[key]}
        case _:
            return {**document, key: _edited(document[key], random)}


def _edited_item(item: Any, random: Random) -> list[Any]:
    match random.randrange(8):
        case 0:
            return []
        case 1:
            return [item, item]
        case 2:
            # Not again what was repeated already: a document stays some megabytes long.
            return [item] * (random.choice((3, 100, 3000)) if len(repr(item)) < 300 else 3)
        case _:
            return [_edited(item, random)]


def _hostile(node: Any, random: Random) -> Any:
    match random.randrange(8):
        case 0:
            depth = random.choice((10, 70, 400, 950, 1100, 20_000))
            opening, closing = random.choice((("[", "]"), ('{"a":', "}")))
            return Literal(opening * depth + "1" + closing * depth)
        case 1 if isinstance(node, str):
            at = random.randint(0, len(node))
            return node[:at] + random.choice(HOSTILE_TEXTS) + node[at:]
        case 2 if isinstance(node, str):
            return node[: random.randint(0, len(node))]
        case _:
            return Literal(random.choice(HOSTILE_VALUES))


def _place(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((0, 1, 1, 2, 5, 20, 200)))


def _flip(data: bytes, random: Random) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]


def _cut(data: bytes, random: Random) -> bytes:
    start, end = _place(data, random)
    return data[:start] + data[end:]


def _end(data: bytes, random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _word(data: bytes, random: Random) -> bytes:
    start, end = _place(data, random)
    return data[:start] + random.choice(WORDS) + data[end if random.random() < 0.5 else start :]


def _double(data: bytes, random: Random) -> bytes:
    start, end = _place(data, random)
    times = random.choice((1, 1, 2, 50, 5000))
    return data[:end] + data[start:end] * times + data[end:]


def _swap(data: bytes, random: Random) -> bytes:
    first, second = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    third = random.randint(second, len(data))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def _noise(data: bytes, random: Random) -> bytes:
    start, end = _place(data, random)
    return data[:start] + random.randbytes(random.choice((1, 3, 40))) + data[end:]


def _number(data: bytes, random: Random) -> bytes:
    digits = [at for at, byte in enumerate(data[:5000]) if 48 <= byte <= 57]
    if not digits:
        return data
    at = random.choice(digits)
    return data[:at] + random.choice(HOSTILE_NUMBERS).encode() + data[at + 1 :]


def _nest(data: bytes, random: Random) -> bytes:
    start, end = _place(data, random)
    depth = random.choice((10, 70, 950, 1100, 50_000))
    brackets = ((b"[", b"]"), (b'{"a":', b"}"), (b"ARRAY<", b">"), (b"STRUCT<`a` ", b">"))
    opening, closing = random.choice(brackets)
    return data[:start] + opening * depth + data[start:end] + closing * depth + data[end:]


_BYTES: Sequence[Mutation] = (_flip, _flip, _cut, _end, _double, _swap, _noise)
_MUTATIONS: Sequence[Mutation] = (*_BYTES, _word, _word, _word, _number, _nest)
