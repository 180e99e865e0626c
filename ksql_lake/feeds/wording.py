"""Pydantic's findings in words for the person who wrote the feed file.

Every kind of finding the model can produce has its own text here; a test walks through them. It refuses to show
pydantic's vocabulary, addresses, or a whole pasted value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ksql_lake.feeds.columns import Problem
from ksql_lake.feeds.model import Checks, Identity, PositionNames, StreamFeed, TableFeed
from ksql_lake.feeds.suggestion import close_matches, did_you_mean

MODELS: Mapping[str, type[BaseModel]] = {"stream": StreamFeed, "table": TableFeed}
_PARTS: Mapping[str, type[BaseModel]] = {"identity": Identity, "positions": PositionNames, "checks": Checks}

_EXAMPLES = {
    "name": 'e.g. "orders"; it is also the name of the file and of the folder in the lake',
    "kind": 'write "stream" or "table"',
    "source": 'the name of the ksqlDB stream or table, e.g. "ORDERS"',
    "start_date": 'the first day to export, e.g. "2025-01-31"',
}
_PATTERNS = {
    "name": "must start with a lower-case letter and go on with lower-case letters, digits or '_', at most 100",
    "source": "must be the name of a ksqlDB stream or table: letters, digits, '_' and '-'",
    "compression": "must be 'zstd', 'zstd:1' to 'zstd:22', 'snappy', 'lz4' or 'none'",
}
_DAY = 'must be a day written "YYYY-MM-DD"'

_Words = Callable[[ErrorDetails], str]


def shown(value: object) -> str:
    """Give a value as JSON, shortened to fit a line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _not(must: str) -> _Words:
    return lambda detail: f"{must}, not {shown(detail['input'])}"


def _bound(words: str, key: str) -> _Words:
    return lambda detail: f"must be {words} {_plain(detail['ctx'][key])}, not {shown(detail['input'])}"


def _plain(bound: object) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _missing(detail: ErrorDetails) -> str:
    example = _EXAMPLES.get(str(detail["loc"][-1]))
    return f"is missing; {example}" if example else "is missing"


def _pattern(detail: ErrorDetails) -> str:
    key = str(detail["loc"][-1])
    return f"{_PATTERNS[key]}, not {shown(detail['input'])}"


def _choice(detail: ErrorDetails) -> str:
    expected = str(detail["ctx"]["expected"])
    matches = close_matches(
        str(detail["input"]), expected.replace("'", "").replace(" or ", ", ").split(", "), most=1
    )
    hint = f". Did you mean {matches[0]!r}?" if matches else ""
    return f"must be {expected}, not {shown(detail['input'])}{hint}"


def _extra(detail: ErrorDetails) -> str:
    kind, *parents, key = (str(part) for part in detail["loc"])
    if parents:
        fields = _PARTS[parents[0]].model_fields
        return f"is not a key of `{parents[0]}`. {_keys(key, fields)}"
    other = "table" if kind == "stream" else "stream"
    if key in MODELS[other].model_fields:
        return f"is a key of {other} feeds only; leave it out of a {kind} feed"
    return f"is not a key of a {kind} feed. {_keys(key, MODELS[kind].model_fields)}"


def _keys(key: str, fields: Mapping[str, object]) -> str:
    return did_you_mean(key, fields) or f"The keys are {', '.join(sorted(fields))}."


_WORDS: Mapping[str, _Words] = {
    "missing": _missing,
    "extra_forbidden": _extra,
    "string_type": _not("must be a text"),
    "bool_type": _not("must be true or false"),
    "int_type": _not("must be a whole number"),
    "float_type": _not("must be a number"),
    "tuple_type": _not("must be a list [ ... ]"),
    "dict_type": _not("must be an object { ... }"),
    "model_type": _not("must be an object { ... }"),
    "date_type": _not(_DAY),
    "date_parsing": _not(_DAY),
    "literal_error": _choice,
    "string_pattern_mismatch": _pattern,
    "string_too_short": lambda _: "must not be empty",
    "too_short": lambda _: "must name at least one; null means all",
    "greater_than": _bound("above", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
    "value_error": lambda detail: str(detail["ctx"]["error"]),
}
KNOWN_FINDINGS = frozenset(_WORDS)
"""The types of finding that have a text of their own."""


def problem(detail: ErrorDetails) -> Problem:
    """Put one finding of pydantic into words, under the key it is about."""
    words = _WORDS.get(detail["type"])
    text = words(detail) if words else f"cannot be used: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
    return Problem(_path(detail["loc"][1:]), text)


def kind_problem(raw: Mapping[str, Any]) -> Problem:
    """Say what is wrong with a `kind` that is neither of the two."""
    if "kind" not in raw:
        return Problem("kind", f"is missing; {_EXAMPLES['kind']}")
    matches = close_matches(str(raw["kind"]), MODELS, most=1)
    hint = f". Did you mean {matches[0]!r}?" if matches else ""
    return Problem("kind", f"must be 'stream' or 'table', not {shown(raw['kind'])}{hint}")


def unknown_key(key: str) -> Problem:
    """Say that neither kind of feed has this key; a `kind` written otherwise is the usual reason to ask."""
    fields = {name for model in MODELS.values() for name in model.model_fields}
    hint = did_you_mean(key, fields)
    return Problem(key, f"is not a key of a feed. {hint}" if hint else "is not a key of a feed")


def _path(parts: tuple[int | str, ...]) -> str:
    text = ""
    for part in parts:
        if part == "[key]":
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
