"""The bytes of a feed file become a Feed, or one error with everything that is wrong with them.

Types are taken as written: `"7"` is not a number and 20250131 is not a day. It refuses to stop at the first
mistake, and to look at other files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ksql_lake.errors import FeedError
from ksql_lake.feeds.columns import Problem, column_problems
from ksql_lake.feeds.document import Document, parse_document
from ksql_lake.feeds.model import COLUMN_PROBLEMS, FEED_ADAPTER, Feed
from ksql_lake.feeds.wording import MODELS, kind_problem, problem, unknown_key

MOST_PROBLEMS = 100
"""Problems of a file that are told."""

_GLEANED = re.compile(rb'"(kind|timezone|start_date)"\s*:\s*"([A-Za-z0-9_+/-]{1,64})"')

_SHARED = set.intersection(*(set(model.model_fields) for model in MODELS.values())) - {"kind"}


def parse_feed(data: bytes, *, file_name: str | None = None, others: Container[str] = ()) -> Feed:
    """Read one feed file.

    Args:
        data: The bytes of the file.
        file_name: What the file is called, which must be NAME.json; None when there is no file yet.
        others: The names of the files beside it.

    Raises:
        FeedError: Lists every problem, each as `key: what`.
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
    """Give what can be made out of a feed file, usable or not: kind, time zone and start date, as texts."""
    return {key.decode(): value.decode() for key, value in _GLEANED.findall(data)}


def feed_error(problems: Iterable[Problem]) -> FeedError:
    """Make one error of all problems of a file."""
    lines = list(dict.fromkeys(str(found) for found in problems))
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    more = [f"... and {len(lines) - MOST_PROBLEMS} more"] if len(lines) > MOST_PROBLEMS else []
    return FeedError(f"{count} found", problems=lines[:MOST_PROBLEMS] + more)


def _schema_key_problems(document: Document) -> Iterator[Problem]:
    if not isinstance(document.value.get("$schema", ""), str):
        yield Problem("$schema", "must be a text: the address of the JSON Schema")


def _check(raw: Mapping[str, Any]) -> tuple[Feed | None, list[Problem]]:
    try:
        text = json.dumps(raw, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None, [Problem("", "a text holds half a character (a lone \\ud800 to \\udfff)")]
    kind = raw.get("kind")
    if kind not in ("stream", "table"):
        return None, [kind_problem(raw), *_shared_problems(raw), *column_problems(raw)]
    try:
        return FEED_ADAPTER.validate_json(text, strict=True), []
    except ValidationError as error:
        details = error.errors(include_url=False)[: MOST_PROBLEMS + 1]
        found = [problem(detail) for detail in details if detail["type"] != COLUMN_PROBLEMS]
        return None, [*found, *column_problems(raw)]


def _shared_problems(raw: Mapping[str, Any]) -> list[Problem]:
    """What can be said without knowing the kind: about keys that both kinds have, or neither."""
    strange = [key for key in raw if all(key not in model.model_fields for model in MODELS.values())]
    unknown = [unknown_key(key) for key in strange[: MOST_PROBLEMS + 1]]
    shared = {key: value for key, value in raw.items() if key in _SHARED}
    try:
        FEED_ADAPTER.validate_json(json.dumps({**shared, "kind": "table"}), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return unknown + [problem(detail) for detail in details if detail["type"] != COLUMN_PROBLEMS]
    return unknown


def _name_problems(name: object, file_name: str, others: Container[str]) -> Iterator[Problem]:
    if isinstance(name, str) and f"{name}.json" != file_name:
        taken = (
            f"; '{name}.json' is another feed already" if f"{name}.json" in others else "; the two must agree"
        )
        yield Problem("name", f"is {name!r}, but the file is called {file_name!r}{taken}")
