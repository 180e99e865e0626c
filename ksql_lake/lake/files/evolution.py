"""How a dataset's columns change when those of its source change. Pure."""

# No value is ever cast to a type that could change it.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ksql_lake.errors import SchemaChangeError
from ksql_lake.schema import Array, Column, Decimal, KsqlType, Map, Primitive, Schema, Struct

Policy = Literal["evolve", "freeze", "new_version"]


def widened(old: KsqlType, new: KsqlType) -> KsqlType | None:
    """Return the type as which both can be read without changing a value, or None when there is none."""
    match old, new:
        case _ if old == new:
            return old
        case (Primitive.INTEGER, Primitive.BIGINT) | (Primitive.BIGINT, Primitive.INTEGER):
            return Primitive.BIGINT
        case Decimal(), Decimal() if old.scale == new.scale:
            return Decimal(max(old.precision, new.precision), old.scale)
        case Array(), Array() if element := widened(old.element, new.element):
            return Array(element)
        case Map(), Map() if old.key == new.key and (value := widened(old.value, new.value)):
            return Map(old.key, value)
        case Struct(), Struct():
            return _widened_struct(old, new)
    return None


def _widened_struct(old: Struct, new: Struct) -> Struct | None:
    known = dict(new.fields)
    fields: list[tuple[str, KsqlType]] = []
    for name, kind in old.fields:
        both = widened(kind, known.pop(name, kind))
        if both is None:
            return None
        fields.append((name, both))
    return Struct((*fields, *known.items()))


def shared(old: KsqlType, new: KsqlType) -> KsqlType | None:
    """Return the type in which values of both can be compared, or None when there is none.

    Unlike `widened`, a STRUCT keeps only the fields that both have.
    """
    match old, new:
        case Array(), Array() if element := shared(old.element, new.element):
            return Array(element)
        case Map(), Map() if old.key == new.key and (value := shared(old.value, new.value)):
            return Map(old.key, value)
        case Struct(), Struct():
            others = dict(new.fields)
            both = [(name, shared(kind, others[name])) for name, kind in old.fields if name in others]
            return Struct(tuple((name, kind) for name, kind in both if kind is not None))
    return widened(old, new)


def places(kind: KsqlType) -> int:
    """Return a measure of how much a value tells: it is larger if a STRUCT in the type has more fields."""
    match kind:
        case Array(element) | Map(_, element):
            return places(element)
        case Struct(fields):
            return 1 + sum(places(field) for _, field in fields)
    return 1


def unify(old: Schema, new: Schema) -> Schema:
    """Return the columns that can hold the rows of both: the old ones in their order, then the added ones.

    Raises:
        SchemaChangeError: Names the column whose types cannot be read as one.
    """
    incoming = {column.name: column for column in new}
    columns: list[Column] = []
    for column in old:
        other = incoming.pop(column.name, column)
        both = widened(column.type, other.type)
        if both is None:
            raise SchemaChangeError(
                f"the source now sends {other.type.text}, but the lake holds {column.type.text}",
                hint="Rename the new column with the feed's `rename`, leave it out with `columns`, or set "
                "`on_schema_change` to new_version, which keeps both as columns of their own.",
                column=column.name,
            )
        columns.append(Column(column.name, both, key=column.key))
    return Schema((*columns, *incoming.values()))


def versioned_names(old: Schema | None, new: Schema) -> dict[str, str]:
    """Name columns whose new type cannot be read as one with the old: `PRICE` becomes `PRICE_V2`, then `_V3`.

    Returns received name -> name in the lake for every received column.
    """
    held = {column.name.casefold(): column for column in old or ()}
    own = {column.name.casefold() for column in new}
    names: dict[str, str] = {}
    for column in new:
        name, number = column.name, 1
        while (number > 1 and name.casefold() in own) or (
            name.casefold() in held and widened(held[name.casefold()].type, column.type) is None
        ):
            number += 1
            name = f"{column.name}_V{number}"
        names[column.name] = name
    return names


def unify_versions(versions: Sequence[Schema]) -> tuple[Schema, list[dict[str, str]]]:
    """Return the columns that can hold the rows of several versions of a table, oldest first.

    Versions are whole snapshots, so anything may differ between them. A column that cannot be unified with the
    older column of its name gets a new name, as a stream's column does: `PRICE_V2`.

    Returns:
        The columns, and for each version a mapping of its names to theirs.
    """
    unified, named = Schema(()), []
    for version in versions:
        spelled = {column.name.casefold(): column.name for column in unified}
        names = {
            own: spelled.get(name.casefold(), name) for own, name in versioned_names(unified, version).items()
        }
        unified = unify(unified, Schema(tuple(replace(column, name=names[column.name]) for column in version)))
        named.append(names)
    return unified, named


def evolved(old: Schema | None, new: Schema, policy: Policy) -> Schema:
    """Return the dataset's columns after rows of `new` land, as the policy allows.

    Raises:
        SchemaChangeError: The change is not allowed; names each column that changed.
    """
    if old is None:
        return new
    unified = unify(old, new)
    if policy == "freeze":
        changes = _differences(old, new)
        if changes:
            raise SchemaChangeError(
                "the source's columns changed and the feed says on_schema_change: freeze: "
                + "; ".join(changes),
                hint="Set `on_schema_change` to evolve to accept this, or name the old columns in `columns`.",
            )
    return unified


def _differences(old: Schema, new: Schema) -> list[str]:
    before = {column.name: column.type.text for column in old}
    after = {column.name: column.type.text for column in new}
    added = [f"{name} {kind} is new" for name, kind in after.items() if name not in before]
    removed = [f"{name} is gone" for name in before if name not in after]
    changed = [
        f"{name} was {kind}, now {after[name]}"
        for name, kind in before.items()
        if name in after and after[name] != kind
    ]
    return added + removed + changed
