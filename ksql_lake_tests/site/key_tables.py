"""The tables of settings and of feed keys, made from the classes that read them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from ksql_lake.feeds import feed_json_schema
from ksql_lake.feeds.model import Checks, Identity, PositionNames, StreamFeed, TableFeed
from ksql_lake.settings import Settings, StoreSettings
from ksql_lake_tests.site.command_pages import escaped

GROUPS = {
    "The server": r"KSQLDB_(URL|USER|PASSWORD|TOKEN|.*_FILE|NODES|TRUST.*)$|KSQL_LAKE_REQUIRE_TLS$",
    "How the server is read": r"KSQLDB_",
    "Alerts": r"KSQL_LAKE_(ALERT|SMTP)",
    "Workers": r"KSQL_LAKE_(EXECUTOR|CELERY)",
    "Object stores": r"(AWS|GOOGLE|AZURE)_",
    "Folders, Dagster and logs": r"",
}
"""Headings and the variables below each; a variable stands below the first that fits."""


def settings() -> str:
    """Every environment variable that is read, group by group."""
    rows: dict[str, list[str]] = {heading: [] for heading in GROUPS}
    for kind in (Settings, StoreSettings):
        variables = {name: _variable(field) for name, field in kind.model_fields.items()}
        meanings = attributes(kind)
        for name, field in kind.model_fields.items():
            heading = next(heading for heading, fits in GROUPS.items() if re.match(fits, variables[name]))
            meaning = _with_variables(meanings[name], variables)
            rows[heading].append(
                f"| `{variables[name]}` | {_default(field)} | {_values(field)} | {escaped(meaning)} |"
            )
    head = ["| variable | default | value | meaning |", "|---|---|---|---|"]
    return (
        "\n\n".join("\n".join([f"## {heading}", "", *head, *lines]) for heading, lines in rows.items()) + "\n"
    )


def attributes(kind: type) -> dict[str, str]:
    """What the docstring of a class says of each attribute."""
    _, _, part = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    joined = re.sub(r"\n {8,}", " ", part)
    return dict(re.findall(r"^ {4}(\w+): (.+)$", joined, re.MULTILINE))


def feed_keys(which: str) -> str:
    """The keys of one part of a feed file.

    Args:
        which: `every`, `stream`, `table`, `identity`, `positions` or `checks`.
    """
    common = StreamFeed.model_fields.keys() & TableFeed.model_fields.keys()
    others: dict[str, type[BaseModel]] = {
        "table": TableFeed,
        "identity": Identity,
        "positions": PositionNames,
        "checks": Checks,
    }
    model = others.get(which, StreamFeed)
    wanted = {"every": common, "stream": StreamFeed.model_fields.keys() - common}
    wanted["table"] = TableFeed.model_fields.keys() - common
    fields = {name: field for name, field in model.model_fields.items() if name in wanted.get(which, {name})}
    described = feed_json_schema()["$defs"][model.__name__]["properties"]
    order = sorted(fields, key=lambda name: (not fields[name].is_required(), list(fields).index(name)))
    meanings = {name: escaped(" ".join(described[name]["description"].split())) for name in order}
    rows = [f"| `{name}` | {_default(fields[name])} | {meanings[name]} |" for name in order]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _variable(field: FieldInfo) -> str:
    (name,) = field.validation_alias.choices  # type: ignore[union-attr]
    return str(name)


def _with_variables(text: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"`(\w+)`", lambda found: f"`{variables.get(found.group(1), found.group(1))}`", text)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    match value:
        case None | () | {}:
            return "none"
        case SecretStr():
            return f"`{value.get_secret_value()}`"
        case Path() | str():
            return f"`{value}`" if str(value) else "empty"
        case bool() | int() | float():
            return f"`{json.dumps(value)}`".replace(".0`", "`")
        case BaseModel():
            return f"`{json.dumps(value.model_dump(exclude_defaults=True) or _first(value))}`"
        case _:
            raise TypeError(f"no way to show {value!r}")


def _first(value: BaseModel) -> dict[str, Any]:
    """The first key of a model whose keys are all at their defaults; nothing where that one is empty too."""
    name = next(iter(type(value).model_fields))
    return {name: getattr(value, name)} if getattr(value, name) else {}


def _values(field: FieldInfo) -> str:
    return " ".join([_kind(field.annotation), *_limits(field)]).strip()


def _kind(annotation: Any) -> str:
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if inner:
        return _kind(inner[0])
    return {bool: "`1` or `0`", int: "whole number", float: "number", Path: "path", SecretStr: "secret"}.get(
        annotation, "text"
    )


def _limits(field: FieldInfo) -> Iterator[str]:
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
    for limit in field.metadata:
        for name, word in words.items():
            if (value := getattr(limit, name, None)) is not None:
                yield f"{word} {value:,}"
