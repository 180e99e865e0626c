"""The form in which rows were read, where a later release reads more exactly than an earlier one. Pure."""

# New rows of a day that was read in an older form are compared in that form, so that a more exact value does
# not count as another event.

from __future__ import annotations

from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

OLDEST = 1
"""Outside of STRUCT, TIME in whole seconds and TIMESTAMP before 1582-10-15 by another calendar; inside of
STRUCT, DECIMAL through a double."""
EXACT = 2
"""TIME with milliseconds, every TIMESTAMP as an exact moment, and every DECIMAL digit by digit."""
CURRENT = EXACT
"""The form in which this release reads rows."""


_REFORM = "TIMESTAMPTZ '1582-10-15 00:00:00+00'"


def blurred(kind: KsqlType, form: int, *, within: bool = False) -> bool:
    """Whether the older form of a type's values is less exact.

    Args:
        kind: The type.
        form: The older form.
        within: Whether the value is inside a STRUCT.
    """
    if form >= EXACT:
        return False
    match kind:
        case Array(element):
            return blurred(element, form, within=within)
        case Map(key, content):
            return blurred(key, form, within=within) or blurred(content, form, within=within)
        case Struct(fields):
            return any(blurred(field, form, within=True) for _, field in fields)
        case Decimal():
            return within
        case _:
            return kind in {Primitive.TIME, Primitive.TIMESTAMP} and not within


def blur(value: str, kind: KsqlType) -> str:
    """Return the SQL of a value in its older form, for a type that is `blurred`."""
    if isinstance(kind, Decimal):
        # Cast by way of the text, because DuckDB's own cast of a DECIMAL rounds more than once.
        return f"CAST(CAST({value} AS VARCHAR) AS DOUBLE)"
    if kind is Primitive.TIMESTAMP:
        # The older calendar moved such times by some days, but they stayed before that day.
        return f"CASE WHEN {value} < {_REFORM} THEN {_REFORM} ELSE {value} END"
    return f"substr(CAST({value} AS VARCHAR), 1, 8)"
