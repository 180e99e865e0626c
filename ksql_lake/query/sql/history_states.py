"""The states of a table's rows over its kept versions, as the text of one SELECT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ksql_lake.lake.files.sql_values import compares_as_is, sql_name, terms
from ksql_lake.query.comparison import Side


@dataclass(frozen=True, slots=True)
class Version:
    """One kept version: its key as SQL text, the time of its reading as an SQL timestamp, and its rows."""

    key: str
    read_at: str
    side: Side


def history_sql(versions: list[Version]) -> str:
    """Return the SELECT of the states; DuckDB can push a filter on key columns down to the files.

    Equal rows of all versions are one group, with a bit for each version that holds the row. A state is a run
    of set bits: most groups have one run, given by the first and the last bit.
    """
    shape = versions[0].side.shown
    rows = "\nUNION ALL\n".join(_numbered(versions))
    groups, shown = [], []
    for at, column in enumerate(shape):
        same = terms(f"c{at}", column.type)
        groups += same
        # DuckDB's `first` makes 0.0 of a nested -0.0; `list` keeps it.
        value = f"first(c{at})" if compares_as_is(column.type) else f"list(c{at})[1]"
        shown.append(f"c{at}" if f"c{at}" in same else f"{value} AS c{at}")
    taken = {column.name.casefold() for column in shape}
    since, until, since_version, until_version = (
        _free(name, taken) for name in ("valid_from", "valid_to", "from_version", "to_version")
    )
    columns = ", ".join(f"c{at}" for at in range(len(shape.columns)))
    listed = ", ".join(f"c{at} AS {sql_name(column.name)}" for at, column in enumerate(shape))
    moments = f"[{', '.join(version.read_at for version in versions)}]"
    names = f"[{', '.join(version.key for version in versions)}]"
    return (
        f"SELECT {listed}, {moments}[run.begun + 1] AS {since}, {moments}[run.ended + 2] AS {until}, "
        f"{names}[run.begun + 1] AS {since_version}, {names}[run.ended + 2] AS {until_version} FROM (\n"
        f"SELECT {columns}, unnest(CASE WHEN bit_count(held) = newest - oldest + 1 "
        f"THEN [{{begun: oldest, ended: newest}}] ELSE {_RUNS} END) AS run FROM (\n"
        # One more bit at each end, so that each version has neighbours.
        f"SELECT {', '.join(shown)}, min(step) AS oldest, max(step) AS newest, "
        f"bitstring_agg(step, -1, {len(versions)}) AS held FROM (\n{rows}\n) GROUP BY {', '.join(groups)}\n))"
    )


_STEPS = (
    "list_filter(range(oldest, newest + 1), lambda s: get_bit(held, CAST(s + 1 AS INTEGER)) = 1 AND {} = 0)"
)
_RUNS = (
    f"list_transform(list_zip({_STEPS.format('get_bit(held, CAST(s AS INTEGER))')}, "
    f"{_STEPS.format('get_bit(held, CAST(s + 2 AS INTEGER))')}), "
    "lambda pair: {begun: CAST(pair[1] AS INTEGER), ended: CAST(pair[2] AS INTEGER)})"
)
"""The runs of versions that hold a row, where there are gaps between them."""


def _numbered(versions: list[Version]) -> Iterator[str]:
    """Yield SELECTs of all versions' rows, each row with its version's number as `step`.

    Versions with the same columns are one scan, which DuckDB plans by a single file of it.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for at, version in enumerate(versions):
        side = version.side
        # A table's column of this name would hide the number of the file.
        apart = at if any(column.name.casefold() == _FILE for column in side.schema) else None
        names = tuple(sorted((side.names or {}).items()))
        alike.setdefault((side.schema.text, names, apart), []).append(at)
    for places in alike.values():
        paths = [path for at in places for path in versions[at].side.paths]
        steps = [at for at in places for _ in versions[at].side.paths]
        step = f"{steps}[CAST({_FILE} AS BIGINT) + 1]" if len(places) > 1 else str(places[0])
        side = replace(versions[places[0]].side, paths=paths).aligned()
        yield f"FROM {side.rows(f'{step} AS step')}"


_FILE = "file_index"
"""DuckDB's column with the position of each row's file in the list of files."""


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no column of the table has."""
    while name in taken:
        name += "_"
    return name
