"""Check that the columns that a feed names fit each other and the lake."""

# An export compares them with the columns of the source.

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ksql_lake.feeds.suggestion import did_you_mean

HIVE_COLUMNS: Mapping[str, tuple[str, ...]] = {"stream": ("year", "month", "day"), "table": ("version",)}
"""Partition columns, which come from the path; no column of a file may have one of these names in any case."""

ROWTIME = "ROWTIME"
ADDED_BY_EXPORT = {"stream": (ROWTIME, "WINDOWSTART", "WINDOWEND"), "table": ("WINDOWSTART", "WINDOWEND")}
_SELECTED_ANYWAY = ("event_time", "identity.columns", "positions")
POSITION_COLUMNS = ("ROWPARTITION", "ROWOFFSET")
"""Kafka partition and offset of a row; ksqlDB returns them to push queries only."""
POSITIONS_MISSING = (
    '"extraction": "continue" needs `positions`: {"partition": "P", "offset": "O"}, the columns in which a '
    "derived stream carries ROWPARTITION and ROWOFFSET of its source (`ksql-lake feeds prepare` makes one)"
)
DELETED = "deleted"
"""The column that `deleted` adds."""
_MOST_COMPARISONS = 20_000
"""The most names that are compared with mistyped ones, in all."""


@dataclass(frozen=True, slots=True)
class FeedProblem:
    """One problem of a feed file.

    Attributes:
        key: Path of keys, e.g. `checks.min_records` or `columns[2]`; empty for the whole file.
        text: The problem, written to follow the key and a colon.
    """

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


@dataclass(frozen=True, slots=True)
class _Use:
    """Every column name in a feed file, by key; parts of a wrong type are left out."""

    kind: str
    pushed: bool
    deleted: bool
    columns: tuple[str, ...] | None
    rename: Mapping[str, str]
    mentioned: Mapping[str, tuple[str, ...]]

    @property
    def lake_names(self) -> list[tuple[str, str, str]]:
        """Return each (key path, source column, lake column) that the file names."""
        kept = [
            (f"columns[{at}]", name, name)
            for at, name in enumerate(self.columns or ())
            if name not in self.rename
        ]
        return kept + [(f"rename.{source}", source, target) for source, target in self.rename.items()]


def column_problems(raw: Mapping[str, object]) -> list[FeedProblem]:
    """Return every problem with the column names of one feed."""
    use = _read(raw)
    finders = (_twice, _unreadable, _missing, _reserved, _clashing)
    return [problem for find in finders for problem in find(use)]


def needed_renames(kind: str, columns: Sequence[str]) -> dict[str, str]:
    """Return the `rename` that a source's columns need to fit the lake: column -> name in the lake.

    Args:
        kind: `stream` or `table`.
        columns: The source's columns, in order; of two that differ only in case the first keeps its name.
    """
    taken = {name.casefold() for name in (*HIVE_COLUMNS.get(kind, ()), ROWTIME)}
    free = {name.casefold() for name in columns}
    renames = {}
    for column in columns:
        name = column
        while name.casefold() in taken or (name != column and name.casefold() in free):
            name += "_"
        taken.add(name.casefold())
        if name != column:
            renames[column] = name
    return renames


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def _mapping(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}


def _read(raw: Mapping[str, object]) -> _Use:
    checks = _mapping(raw.get("checks"))
    event_time = raw.get("event_time")
    positions = _mapping(raw.get("positions"))
    return _Use(
        kind=str(raw.get("kind")),
        pushed=raw.get("extraction") == "push",
        deleted=raw.get("deleted") is True,
        columns=_texts(raw["columns"]) if raw.get("columns") is not None else None,
        rename={
            source: target
            for source, target in _mapping(raw.get("rename")).items()
            if isinstance(source, str) and isinstance(target, str)
        },
        mentioned={
            "event_time": (event_time,) if isinstance(event_time, str) else (),
            "identity.columns": _texts(_mapping(raw.get("identity")).get("columns")),
            "positions": _texts([positions.get(name) for name in ("partition", "offset")]),
            "descriptions": tuple(name for name in _mapping(raw.get("descriptions")) if isinstance(name, str)),
            "checks.not_null": _texts(checks.get("not_null")),
            "checks.unique": _texts(checks.get("unique")),
        },
    )


def _twice(use: _Use) -> Iterator[FeedProblem]:
    lists = {"columns": use.columns or (), **use.mentioned}
    for key, names in lists.items():
        for name, count in Counter(names).items():
            if count > 1:
                yield FeedProblem(key, f"{name!r} is named {count} times")


def _unreadable(use: _Use) -> Iterator[FeedProblem]:
    for key, names in {"columns": use.columns or (), "rename": tuple(use.rename), **use.mentioned}.items():
        for name in dict.fromkeys(names):
            if name in POSITION_COLUMNS and key == "positions":
                yield FeedProblem(
                    key, f"{name} is not a column; name the derived stream's copy of it, e.g. 'P'"
                )
            elif name in POSITION_COLUMNS and not (use.pushed and use.kind == "stream"):
                yield FeedProblem(
                    key,
                    f"ksqlDB cannot return {name} to a pull query; derive a stream that copies it "
                    f"(CREATE STREAM ... AS SELECT *, ROWPARTITION AS RP, ROWOFFSET AS RO FROM ...), "
                    f'and export that one, or set "extraction": "push" in a stream feed',
                )


def _missing(use: _Use) -> Iterator[FeedProblem]:
    if use.columns is None:
        return
    # Columns that an export adds: time and identity columns, and the bounds of a windowed table.
    known = {*use.columns, *ADDED_BY_EXPORT.get(use.kind, ())}
    known.update(*(use.mentioned[key] for key in _SELECTED_ANYWAY))
    wanted = {key: names for key, names in use.mentioned.items() if key not in _SELECTED_ANYWAY}
    budget = _MOST_COMPARISONS
    for key, names in {"rename": tuple(use.rename), **wanted}.items():
        for name in dict.fromkeys(names):
            if name not in known and name not in POSITION_COLUMNS:
                budget -= len(use.columns)
                guess = did_you_mean(name, use.columns) if budget >= 0 else ""
                yield FeedProblem(key, f"{name!r} is not among `columns`. {guess or 'Add it to `columns`.'}")


def _reserved(use: _Use) -> Iterator[FeedProblem]:
    if use.kind == "stream" and ROWTIME in use.rename:
        yield FeedProblem("rename.ROWTIME", "ROWTIME is always exported under its own name")
    hive = HIVE_COLUMNS.get(use.kind, ())
    for key, source, target in use.lake_names:
        way_out = "choose another name" if source in use.rename else f"rename it, e.g. to {source + '_'!r}"
        if target.casefold() in hive:
            names = ", ".join(hive)
            yield FeedProblem(
                key, f"{target!r} is a partition column of the lake ({names}, in any case); {way_out}"
            )
        elif use.deleted and target.casefold() == DELETED:
            yield FeedProblem(key, f"{target!r} is the name of the column that `deleted` adds; {way_out}")
        elif target.casefold() == ROWTIME.casefold() and source != ROWTIME:
            yield FeedProblem(
                key, f"{target!r} is the name of ksqlDB's own time column (in any case); {way_out}"
            )


def _clashing(use: _Use) -> Iterator[FeedProblem]:
    seen: dict[str, tuple[str, str]] = {}
    for key, source, target in use.lake_names:
        first = seen.setdefault(target.casefold(), (source, target))
        if first[0] == source:
            continue
        if first[1] == target:
            yield FeedProblem(
                key, f"{source!r} and {first[0]!r} would both be called {target!r}; rename one of them"
            )
        else:
            yield FeedProblem(
                key,
                f"{target!r} and {first[1]!r} differ only in case, which DuckDB and Spark cannot tell apart; "
                f"rename one of them",
            )
