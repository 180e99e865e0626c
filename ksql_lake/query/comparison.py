"""The comparison of two versions of a table: key, columns and SELECT. It only builds text."""

# A column that only one version has is a change of the schema, not of every row.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ksql_lake.errors import LakeError, SchemaChangeError
from ksql_lake.lake.files.evolution import shared, widened
from ksql_lake.lake.files.sql_values import compares_as_is, sql_files, sql_name, sql_text, sql_type, terms
from ksql_lake.schema import Column, KsqlType, Schema


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A column that differs between both versions.

    Attributes:
        column: Its name.
        change: `added`, `removed`, `widened`, `narrowed`, `changed` (fields of a STRUCT were added or
            removed; the others are compared), `retyped` (its values cannot be compared) or `renamed` (its name
            differs only in case; readers treat it as the same column, and `old` and `new` are its names).
        old: Its old type; None if the column is new.
        new: Its new type; None if the column was removed.
    """

    column: str
    change: Literal["added", "removed", "widened", "narrowed", "changed", "retyped", "renamed"]
    old: str | None
    new: str | None

    @property
    def text(self) -> str:
        """The change as a phrase."""
        match self.change:
            case "added":
                return f"{self.column} {self.new} was added"
            case "removed":
                return f"{self.column} {self.old} was removed"
            case "renamed":
                return f"{self.old} was renamed {self.new}"
            case "retyped":
                return f"{self.column} was {self.old} and is {self.new} now: its values are not compared"
            case "changed":
                return f"{self.column} was {self.old} and is {self.new} now: compared on what both have"
            case _:
                return f"{self.column} was {self.change} from {self.old} to {self.new}"

    def as_dict(self) -> dict[str, str | None]:
        """The change as JSON-ready data."""
        return {"column": self.column, "change": self.change, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class ComparedColumn:
    """A column of both versions: its position in each, and the type in which its values are compared.

    Its name is that of the new version; the old name may differ in case.
    """

    name: str
    was: str
    old: int
    new: int
    type: KsqlType
    alike: bool

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of expressions over `o` and `n`; all pairs are equal exactly if the values are the same."""
        before = terms(f"o.c{self.old}", self.type, always=not self.alike)
        return list(zip(before, terms(f"n.c{self.new}", self.type, always=not self.alike), strict=True))

    @property
    def differs(self) -> str:
        """The condition that the values differ."""
        different = " OR ".join(f"{before} IS DISTINCT FROM {after}" for before, after in self.pairs)
        before, after = f"o.c{self.old}", f"n.c{self.new}"
        if not self.alike or not compares_as_is(self.type) or self.pairs == [(before, after)]:
            return f"({different})"
        # Most values are equal without sorting, and sorting MAP entries is expensive.
        return f"CASE WHEN {before} IS NOT DISTINCT FROM {after} THEN false ELSE {different} END"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The columns by which two versions are compared.

    Attributes:
        key: The columns that identify a row, the same in both.
        values: The other columns that both have and whose values can be compared.
        changes: The columns that differ.
    """

    key: tuple[ComparedColumn, ...]
    values: tuple[ComparedColumn, ...]
    changes: tuple[SchemaChange, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One version in a comparison.

    Attributes:
        paths: Its files.
        schema: Their columns.
        shape: The columns in which its rows are shown; None means those of `schema`.
        names: Name of a column in `schema` -> its name in `shape`, if they differ.
        values: For each column of `schema` its SQL over the files; None means the column of that name.
    """

    paths: Sequence[str]
    schema: Schema
    shape: Schema | None = None
    names: Mapping[str, str] | None = None
    values: Sequence[str] | None = None

    @property
    def shown(self) -> Schema:
        """The columns in which its rows are shown."""
        return self.shape or self.schema

    def shown_name(self, column: str) -> str:
        """Return the name under which one of its columns is shown."""
        return (self.names or {}).get(column, column)

    def shown_column(self, column: str) -> Column:
        """Return one of its columns as it is shown."""
        name = self.shown_name(column)
        return next(shown for shown in self.shown if shown.name == name)

    def rows(self, mark: str = "true AS here") -> str:
        """Return the rows as SQL: a mark, then numbered columns, so that no name can clash with the mark."""
        values = self.values or [sql_name(column.name) for column in self.schema]
        listed = ", ".join(f"{value} AS c{at}" for at, value in enumerate(values))
        return (
            f"(SELECT {mark}, {listed} FROM read_parquet({sql_files(self.paths)}, hive_partitioning = false))"
        )

    def struct(self, alias: str, columns: Sequence[Column], *, labels: Sequence[str] | None = None) -> str:
        """Return a STRUCT of some of the shown columns; its fields have their names, or `labels`."""
        own = {self.shown_name(column.name): f"{alias}.c{at}" for at, column in enumerate(self.schema)}
        names = labels or [column.name for column in columns]
        listed = [
            f"{sql_text(name)}: {self._as_shown(own, column)}"
            for name, column in zip(names, columns, strict=True)
        ]
        return f"{{{', '.join(listed)}}}"

    def aligned(self) -> Side:
        """The same rows as if the files had the shown columns; a column that they lack is NULL."""
        own = {self.shown_name(column.name): sql_name(column.name) for column in self.schema}
        return Side(self.paths, self.shown, values=[self._as_shown(own, column) for column in self.shown])

    def _as_shown(self, values: Mapping[str, str], column: Column) -> str:
        types = {self.shown_name(own.name): own.type for own in self.schema}
        value = values.get(column.name, "NULL")
        same = types.get(column.name) == column.type
        return value if same else f"CAST({value} AS {sql_type(column.type)})"


def compare(old: Schema, new: Schema) -> Comparison:
    """Return how to compare two versions.

    Raises:
        LakeError: A version has no key.
        SchemaChangeError: Their keys differ.
    """
    _check_keys(old, new)
    places = {column.name.casefold(): (at, column) for at, column in enumerate(new)}
    changes: list[SchemaChange] = []
    both = []
    for at, column in enumerate(old):
        there, found = places.get(column.name.casefold(), (0, None))
        if found is not None and found.name != column.name:
            changes.append(SchemaChange(found.name, "renamed", column.name, found.name))
        name = found.name if found else column.name
        if (change := _change(name, column.type, found.type if found else None)) is not None:
            changes.append(change)
        common = shared(column.type, found.type) if found else None
        if found is not None and common is not None:
            alike = column.type == found.type
            both.append((column.key, ComparedColumn(name, column.name, at, there, common, alike=alike)))
    known = {column.name.casefold() for column in old}
    changes += [
        SchemaChange(column.name, "added", None, column.type.text)
        for column in new
        if column.name.casefold() not in known
    ]
    return Comparison(
        key=tuple(compared for key, compared in both if key),
        values=tuple(compared for key, compared in both if not key),
        changes=tuple(changes),
    )


def same_key(old: Schema, new: Schema) -> bool:
    """Return whether two versions have the same key, so that rows of one can be found in the other."""
    before, after = _key(old), _key(new)
    return before.keys() == after.keys() and all(
        (common := shared(kind, after[name])) is not None and common == widened(kind, after[name])
        for name, kind in before.items()
    )


def changes_sql(old: Side, new: Side, compared: Comparison) -> str:
    """Return the SELECT of the changes, one row each: `op`, `key`, `changed`, `before`, `after`.

    `key`, `before` and `after` are STRUCTs; `before` is NULL for an insert and `after` for a delete. `changed`
    names the columns of an update, and is NULL otherwise.
    """
    met = " AND ".join(
        f"{before} IS NOT DISTINCT FROM {after}" for column in compared.key for before, after in column.pairs
    )
    labels = [new.shown_name(column.name) for column in compared.key]
    old_key, new_key = (
        side.struct(alias, [side.shown_column(name) for name in names], labels=labels)
        for side, alias, names in (
            (old, "o", [column.was for column in compared.key]),
            (new, "n", [column.name for column in compared.key]),
        )
    )
    named = [(new.shown_name(column.name), column.differs) for column in compared.values]
    differing = ", ".join(f"CASE WHEN {differs} THEN {sql_text(name)} END" for name, differs in named)
    changed = f"list_filter([{differing or 'NULL'}]::VARCHAR[], lambda x: x IS NOT NULL)"
    wanted = " OR ".join(["o.here IS NULL", "n.here IS NULL", *(differs for _, differs in named)])
    return (
        "SELECT "
        "CASE WHEN o.here IS NULL THEN 'insert' WHEN n.here IS NULL THEN 'delete' ELSE 'update' END AS op, "
        f"CASE WHEN n.here IS NULL THEN {old_key} ELSE {new_key} END AS key, "
        f"CASE WHEN o.here AND n.here THEN {changed} END AS changed, "
        f"CASE WHEN o.here THEN {old.struct('o', old.shown.columns)} END AS before, "
        f"CASE WHEN n.here THEN {new.struct('n', new.shown.columns)} END AS after\n"
        f"FROM {old.rows()} AS o\nFULL JOIN {new.rows()} AS n ON {met}\nWHERE {wanted}"
    )


def _key(schema: Schema) -> dict[str, KsqlType]:
    return {column.name.casefold(): column.type for column in schema if column.key}


def _check_keys(old: Schema, new: Schema) -> None:
    if not _key(old) or not _key(new):
        raise LakeError(
            "this version lacks its key columns",
            hint="The feed's `columns` left the key out. Add it there (or drop `columns`) and export again: "
            "versions from then on can be compared.",
        )
    if not same_key(old, new):
        before, after = (
            ", ".join(f"{column.name} {column.type.text}" for column in side if column.key)
            for side in (old, new)
        )
        raise SchemaChangeError(
            f"the key was {before} and is {after} now, so no row of one can be found in the other",
            hint="Compare versions that are both before or both after that change.",
        )


def _change(name: str, old: KsqlType, new: KsqlType | None) -> SchemaChange | None:
    if new is None:
        return SchemaChange(name, "removed", old.text, None)
    if old == new:
        return None
    both = widened(old, new)
    if both == new:
        kind: Literal["widened", "narrowed", "changed", "retyped"] = "widened"
    elif both == old:
        kind = "narrowed"
    else:
        kind = "changed" if shared(old, new) is not None else "retyped"
    if kind != "retyped" and shared(old, new) != both:
        kind = "changed"
    return SchemaChange(name, kind, old.text, new.text)
