"""Parse the bytes of a feed file into a Feed, or raise one error with all problems."""

# Types are strict: `"7"` is not a number and 20250131 is not a day.

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ksql_lake.errors import FeedError
from ksql_lake.feeds.document import Document, parse_document
from ksql_lake.feeds.feed_columns import FeedProblem, column_problems
from ksql_lake.feeds.model import (
    COLUMN_PROBLEMS,
    FEED_ADAPTER,
    Checks,
    Feed,
    Identity,
    PositionNames,
    StreamFeed,
    TableFeed,
)
from ksql_lake.feeds.suggestion import close_matches, did_you_mean

MODELS: Mapping[str, type[BaseModel]] = {"stream": StreamFeed, "table": TableFeed}
PARTS: Mapping[str, type[BaseModel]] = {"identity": Identity, "positions": PositionNames, "checks": Checks}

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

MOST_PROBLEMS = 100
"""The most problems of a file that are listed."""

AND_MORE = "... and more"
"""Ends the list of a file that has others."""

_GLEANED = re.compile(rb'"(kind|source|timezone|start_date)"\s*:\s*"([A-Za-z0-9_+/-]{1,64})"')
_SHARED = set.intersection(*(set(model.model_fields) for model in MODELS.values())) - {"kind"}


def shown(value: object) -> str:
    """Return a value as JSON, shortened to fit a line."""
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
        fields = PARTS[parents[0]].model_fields
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
"""The types of pydantic errors for which there is a text here."""


def problem(detail: ErrorDetails) -> FeedProblem:
    """Return the problem of a feed file that one pydantic error describes."""
    words = _WORDS.get(detail["type"])
    text = words(detail) if words else f"cannot be used: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
    return FeedProblem(_path(detail["loc"][1:]), text)


def kind_problem(raw: Mapping[str, Any]) -> FeedProblem:
    """Return the problem of a `kind` that is neither of the two."""
    if "kind" not in raw:
        return FeedProblem("kind", f"is missing; {_EXAMPLES['kind']}")
    matches = close_matches(str(raw["kind"]), MODELS, most=1)
    hint = f". Did you mean {matches[0]!r}?" if matches else ""
    return FeedProblem("kind", f"must be 'stream' or 'table', not {shown(raw['kind'])}{hint}")


def unknown_key(key: str) -> FeedProblem:
    """Return the problem of a key that neither kind of feed has, with a similar key as a hint."""
    fields = {name for model in MODELS.values() for name in model.model_fields}
    hint = did_you_mean(key, fields)
    return FeedProblem(key, f"is not a key of a feed. {hint}" if hint else "is not a key of a feed")


def _path(parts: tuple[int | str, ...]) -> str:
    text = ""
    for part in parts:
        if part == "[key]":
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def parse_feed(data: bytes, *, file_name: str | None = None, others: Container[str] = ()) -> Feed:
    """Read one feed file.

    Args:
        data: The bytes of the file.
        file_name: The file's name, which must be NAME.json; None when there is no file yet.
        others: The names of the files beside it.

    Raises:
        FeedError: Lists every problem, each as `key: problem`.
    """
    document = parse_document(data)
    found = [*document.problems, *_schema_key_problems(document)]
    raw = {key: value for key, value in document.value.items() if key != "$schema"}
    feed, problems = _check(raw)
    found += problems
    if file_name is not None:
        found += _name_problems(raw.get("name"), file_name, others)
    if feed is None or found:
        raise feed_error(found)
    return feed


def glean(data: bytes) -> dict[str, str]:
    """Return the values of some keys of a feed file, usable or not, as texts."""
    return {key.decode(): value.decode() for key, value in _GLEANED.findall(data)}


def feed_error(problems: Iterable[FeedProblem]) -> FeedError:
    """Return one error of a file: its first MOST_PROBLEMS problems, then AND_MORE if there are others."""
    lines = list(dict.fromkeys(str(found) for found in problems))
    if len(lines) > MOST_PROBLEMS:
        # Callers stop looking soon after that many, so how many there are is not known.
        more = f"more than {MOST_PROBLEMS} problems found"
        return FeedError(more, problems=[*lines[:MOST_PROBLEMS], AND_MORE])
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return FeedError(f"{count} found", problems=lines)


def _schema_key_problems(document: Document) -> Iterator[FeedProblem]:
    if not isinstance(document.value.get("$schema", ""), str):
        yield FeedProblem("$schema", "must be a text: the address of the JSON Schema")


def _check(raw: Mapping[str, Any]) -> tuple[Feed | None, list[FeedProblem]]:
    try:
        text = json.dumps(raw, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None, [FeedProblem("", "a text holds half a character (a lone \\ud800 to \\udfff)")]
    kind = raw.get("kind")
    if kind not in ("stream", "table"):
        return None, [kind_problem(raw), *_shared_problems(raw), *column_problems(raw)]
    try:
        return FEED_ADAPTER.validate_json(text, strict=True), []
    except ValidationError as error:
        details = error.errors(include_url=False)[: MOST_PROBLEMS + 1]
        found = [problem(detail) for detail in details if detail["type"] != COLUMN_PROBLEMS]
        return None, [*found, *column_problems(raw)]


def _shared_problems(raw: Mapping[str, Any]) -> list[FeedProblem]:
    """Return the problems that do not depend on the kind: of keys that both kinds have, or neither."""
    strange = [key for key in raw if all(key not in model.model_fields for model in MODELS.values())]
    unknown = [unknown_key(key) for key in strange[: MOST_PROBLEMS + 1]]
    shared = {key: value for key, value in raw.items() if key in _SHARED}
    try:
        FEED_ADAPTER.validate_json(json.dumps({**shared, "kind": "table"}), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return unknown + [problem(detail) for detail in details if detail["type"] != COLUMN_PROBLEMS]
    return unknown


def _name_problems(name: object, file_name: str, others: Container[str]) -> Iterator[FeedProblem]:
    if isinstance(name, str) and f"{name}.json" != file_name:
        taken = (
            f"; '{name}.json' is another feed already" if f"{name}.json" in others else "; the two must agree"
        )
        yield FeedProblem("name", f"is {name!r}, but the file is called {file_name!r}{taken}")
