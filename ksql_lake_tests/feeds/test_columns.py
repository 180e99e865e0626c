"""Column names that must fit together."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ksql_lake.feeds.feed_columns import column_problems, needed_renames

DAYS = "is a partition column of the lake (year, month, day, in any case)"
VERSIONS = "is a partition column of the lake (version, in any case)"
TIME = "is the name of ksqlDB's own time column (in any case)"
CASE = "differ only in case, which DuckDB and Spark cannot tell apart; rename one of them"
ADD = "is not among `columns`. Add it to `columns`."


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"rename": {"A": "Year"}}, f"rename.A: 'Year' {DAYS}; choose another name"),
        ({"columns": ["day"]}, f"columns[0]: 'day' {DAYS}; rename it, e.g. to 'day_'"),
        ({"kind": "table", "rename": {"A": "VERSION"}}, f"rename.A: 'VERSION' {VERSIONS}; choose another name"),
        ({"rename": {"A": "RowTime"}}, f"rename.A: 'RowTime' {TIME}; choose another name"),
        ({"kind": "table", "rename": {"A": "ROWTIME"}}, f"rename.A: 'ROWTIME' {TIME}; choose another name"),
        ({"columns": ["rowtime"]}, f"columns[0]: 'rowtime' {TIME}; rename it, e.g. to 'rowtime_'"),
        ({"rename": {"ROWTIME": "ts"}}, "rename.ROWTIME: ROWTIME is always exported under its own name"),
        ({"columns": ["A", "A"]}, "columns: 'A' is named 2 times"),
        ({"identity": {"columns": ["A", "A"]}}, "identity.columns: 'A' is named 2 times"),
        ({"columns": ["A", "a"]}, f"columns[1]: 'a' and 'A' {CASE}"),
        ({"rename": {"A": "x", "B": "X"}}, f"rename.B: 'X' and 'x' {CASE}"),
        (
            {"rename": {"A": "x", "B": "x"}},
            "rename.B: 'B' and 'A' would both be called 'x'; rename one of them",
        ),
        (
            {"columns": ["A", "B"], "rename": {"A": "B"}},
            "rename.A: 'A' and 'B' would both be called 'B'; rename one of them",
        ),
        (
            {"columns": ["AMOUNT"], "rename": {"AMOUT": "x"}},
            "rename: 'AMOUT' is not among `columns`. Did you mean 'AMOUNT'?",
        ),
        ({"columns": ["A"], "checks": {"not_null": ["B"]}}, f"checks.not_null: 'B' {ADD}"),
        ({"columns": ["A"], "checks": {"unique": ["B"]}}, f"checks.unique: 'B' {ADD}"),
        (
            {"kind": "table", "columns": ["A"], "checks": {"unique": ["ROWTIME"]}},
            f"checks.unique: 'ROWTIME' {ADD}",
        ),
    ],
)
def test_says_what_does_not_fit(keys: Mapping[str, object], problem: str) -> None:
    """Each clash is reported once, under the key that causes it, with the way out."""
    assert [problem] == [str(found) for found in column_problems({"kind": "stream", **keys})]


@pytest.mark.parametrize("key", ["columns", "identity.columns", "rename"])
def test_explains_how_to_get_kafka_positions(key: str) -> None:
    """ROWOFFSET, which pull queries refuse, is answered with the derived stream that has it."""
    keys: dict[str, dict[str, object]] = {
        "columns": {"columns": ["ROWOFFSET"]},
        "identity.columns": {"identity": {"columns": ["RP", "ROWOFFSET"]}},
        "rename": {"rename": {"ROWOFFSET": "ro"}},
    }

    (found,) = column_problems({"kind": "stream", **keys[key]})

    assert key == found.key
    assert "CREATE STREAM ... AS SELECT *, ROWPARTITION AS RP, ROWOFFSET AS RO FROM ..." in found.text


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"columns": ["A", "B"], "rename": {"A": "B", "B": "A"}},
        {"columns": ["day"], "rename": {"day": "weekday"}},
        {"columns": ["version"]},
        {"columns": ["ROWTIME", "A"]},
        {
            "columns": ["A"],
            "event_time": "TS",
            "identity": {"by": "key", "columns": ["B"]},
            "checks": {"not_null": ["TS", "B"]},
        },
        {"kind": "table", "columns": ["A"], "checks": {"unique": ["A", "WINDOWSTART"]}},
        {"columns": ["A"], "rename": {"WINDOWEND": "CLOSED"}, "checks": {"unique": ["A", "WINDOWSTART"]}},
        {"columns": ["A"], "event_time": "ROWTIME", "checks": {"not_null": ["ROWTIME"]}},
        {"kind": "table", "columns": ["ROWTIME", "year"]},
        {"kind": "table", "columns": ["ROWTIME"], "rename": {"ROWTIME": "changed_at"}},
        {"columns": 3, "rename": [], "identity": "x", "checks": None, "event_time": 7},
    ],
)
def test_lets_fitting_columns_pass(keys: Mapping[str, object]) -> None:
    """Names that fit pass; ill-typed keys are left to the type checks."""
    assert column_problems({"kind": "stream", **keys}) == []


@pytest.mark.parametrize(
    ("kind", "columns", "renames"),
    [
        ("stream", ["ID", "NAME"], {}),
        ("stream", ["year", "Month", "DAY"], {"year": "year_", "Month": "Month_", "DAY": "DAY_"}),
        ("stream", ["x", "X"], {"X": "X_"}),
        ("stream", ["x", "X", "X_"], {"X": "X__"}),
        ("stream", ["rowtime"], {"rowtime": "rowtime_"}),
        ("stream", ["year", "year_"], {"year": "year__"}),
        ("table", ["version", "year", "rowtime"], {"version": "version_", "rowtime": "rowtime_"}),
    ],
)
def test_renames_what_could_not_land(kind: str, columns: list[str], renames: dict[str, str]) -> None:
    """Names that the lake or a reader would mix up get a tail, and the outcome fits the lake."""
    assert needed_renames(kind, columns) == renames
    assert column_problems({"kind": kind, "columns": columns, "rename": renames}) == []
