"""The few rows a page shows, and the SQL it offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from ksql_lake.errors import MASK
from ksql_lake.lake import Lake
from ksql_lake.query.page import (
    CHARACTERS,
    COLUMNS,
    FOLDED,
    description,
    duckdb_snippet,
    partition_page,
    sample,
)
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed

DAY = "2025-01-15"


def _cells(markdown: str) -> list[list[str]]:
    """The table's cells, heading first, without the code marks."""
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [line.replace("\\|", "\0")[2:-2].split(" | ") for line in table]
    return [[cell.strip("`").replace("\0", "|") for cell in row] for row in rows if row[0] != "---"]


def _land_users(lake: Lake, schema: str, *rows: dict[str, Any]) -> None:
    land_rows(lake, table_feed(), rows, schema=parse_schema(schema))


def test_a_sample_is_the_first_rows_as_a_table(tmp_path: Path) -> None:
    """At most so many rows, without path columns, times as ISO text, NULL as NULL."""
    lake = Lake(tmp_path)
    land_rows(lake, stream_feed(), [event(1, note=None), event(2), event(3)])

    shown = sample(lake.feed(stream_feed()), DAY, rows=2)

    assert _cells(shown) == [
        ["ROWTIME", "ID", "NOTE"],
        ["2025-01-15 00:00:01.000", "1", "NULL"],
        ["2025-01-15 00:00:02.000", "2", "n"],
    ]
    assert shown.endswith(f"The first rows of {DAY}.")


def test_a_day_without_rows_shows_those_of_the_newest_that_has_some(tmp_path: Path) -> None:
    """The page of a quiet stream still shows what its rows look like; an empty feed says that it is."""
    lake = Lake(tmp_path)
    land_rows(lake, stream_feed(), [event(1), event(2, day=1)])
    land_rows(lake, table_feed(), [])

    assert "The first rows of 2025-01-16." in sample(lake.feed(stream_feed()), "2025-01-17", rows=5)
    assert sample(lake.feed(table_feed()), "v1", rows=5) == "v1 holds no rows."
    assert sample(lake.feed(stream_feed(name="other")), DAY, rows=5) == "There are no rows yet."


def test_what_a_row_holds_is_never_markdown(tmp_path: Path) -> None:
    """Links, images, pipes, backticks and line ends of a value stay text in their cell."""
    lake = Lake(tmp_path)
    nasty = "![x](http://e/) | `b`\n# <i>"
    _land_users(lake, "`ID` BIGINT KEY, `NAME` STRING", {"ID": 1, "NAME": nasty})

    shown = sample(lake.feed(table_feed()), "v1", rows=5)

    assert _cells(shown)[1] == ["1", "![x](http://e/) | 'b' # <i>"]
    assert shown.splitlines()[2] == r"| `1` | `![x](http://e/) \| 'b' # <i>` |"


def test_what_a_name_calls_secret_is_hidden(tmp_path: Path) -> None:
    """Such columns, fields of a STRUCT and entries of a MAP show dots; BYTES show their length."""
    lake = Lake(tmp_path)
    _land_users(
        lake,
        "`ID` BIGINT KEY, `API_KEY` STRING, `LOGIN` STRUCT<`NAME` STRING, `PASSWORD` STRING>, "
        "`MORE` MAP<STRING, STRING>, `BLOB` BYTES, `SPIN` STRING",
        {
            "ID": 1,
            "API_KEY": "k3y",
            "LOGIN": {"NAME": "ann", "PASSWORD": "pw"},
            "MORE": [("pin", "1234"), ("town", "Bern")],
            "BLOB": b"abc",
            "SPIN": "up",
        },
    )

    (row,) = _cells(sample(lake.feed(table_feed()), "v1", rows=5))[1:]

    assert row == [
        "1",
        MASK,
        f'{{"NAME": "ann", "PASSWORD": "{MASK}"}}',
        f'{{"pin": "{MASK}", "town": "Bern"}}',
        "3 bytes",
        "up",
    ]


def test_a_sample_is_bounded(tmp_path: Path) -> None:
    """However wide a source is, its sample fits on a page."""
    lake = Lake(tmp_path)
    names = [f"C{number}" for number in range(100)]
    schema = "`ID` BIGINT KEY, " + ", ".join(f"`{name}` STRING" for name in names)
    _land_users(lake, schema, *({"ID": key} | dict.fromkeys(names, "x" * 1000) for key in range(30)))

    shown = sample(lake.feed(table_feed()), "v1", rows=20)

    cells = _cells(shown)
    assert (len(cells), len(cells[0])) == (21, COLUMNS)
    assert cells[1][1] == "x" * (CHARACTERS - 1) + "…"
    assert shown.endswith("; 89 columns more.")
    assert len(shown) < 20_000
    # Too wide to stand among other facts: long enough for Dagster to fold it.
    folded = partition_page(lake.feed(table_feed(sample_rows=1)), "v1").sample
    assert folded is not None
    assert len(folded) >= FOLDED


def test_files_that_are_on_their_way_out_fail_nothing(tmp_path: Path) -> None:
    """A page is made after the rows have landed: what goes wrong with it is said in its place."""
    lake = Lake(tmp_path)
    land_rows(lake, stream_feed(), [event(1)])
    (file,) = (tmp_path / "streams").rglob("*.parquet")
    file.unlink()

    assert sample(lake.feed(stream_feed()), DAY, rows=5).startswith("The rows could not be read: `")


@pytest.mark.parametrize("folder", ["lake", "it's [a] *lake*?"])
def test_the_snippets_run_in_duckdb_alone(tmp_path: Path, folder: str) -> None:
    """A day, everything, a version and the latest version: pasted as they are, wherever the lake is."""
    lake, stream, table = Lake(tmp_path / folder), stream_feed(), table_feed()
    land_rows(lake, stream, [event(1), event(2, day=1), event(3, day=1)])
    for number in range(1, 11):
        land_rows(lake, table, [{"ID": key, "NAME": "n"} for key in range(number)])

    def rows(sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            return connection.sql(sql).fetchall()

    day = duckdb_snippet(lake.feed(stream), "2025-01-16").removesuffix(";")
    assert rows(f"SELECT ID, year, month, day FROM ({day}) ORDER BY ID") == [
        (2, 2025, 1, 16),
        (3, 2025, 1, 16),
    ]
    whole = duckdb_snippet(lake.feed(stream)).removesuffix(";")
    assert rows(f"SELECT count(*), sum(month) FROM ({whole})") == [(3, 3)]
    version = duckdb_snippet(lake.feed(table), "v9")
    assert {row[-1] for row in rows(version)} == {"v9"}
    assert len(rows(version)) == 9
    latest = rows(duckdb_snippet(lake.feed(table)))
    assert len(latest) == 10
    assert {row[-1] for row in latest} == {"v10"}


def test_a_page_tells_what_its_partitions_are(tmp_path: Path) -> None:
    """Whose days, by which column, what makes a row new; how many versions are kept; the SQL as it is."""
    lake = Lake(tmp_path)
    stream = stream_feed(
        timezone="Europe/Berlin",
        description="What happens.",
        identity={"by": "key", "columns": ["ID"]},
        event_time="AT",
    )
    about = description(lake.feed(stream))

    assert about.startswith("What happens.\n\nEach partition is a day in Europe/Berlin, by `AT`, of the stream")
    assert "adds the rows whose `ID` the lake does not hold" in about
    assert f"```sql\n{duckdb_snippet(lake.feed(stream))}\n```" in about
    assert "the newest 3 versions are kept" in description(lake.feed(table_feed(retention=3)))
    assert description(lake.feed(table_feed())).startswith("The ksqlDB table `USERS` as Parquet.")


def test_a_feed_can_keep_its_rows_off_the_page(tmp_path: Path) -> None:
    """`sample_rows: 0` leaves only the SQL."""
    lake = Lake(tmp_path)
    land_rows(lake, stream_feed(), [event(1)])

    shown = partition_page(lake.feed(stream_feed()), DAY).sample
    assert shown == sample(lake.feed(stream_feed()), DAY, rows=5)
    page = partition_page(lake.feed(stream_feed(sample_rows=0)), DAY)
    assert page.sample is None
    with duckdb.connect() as connection:
        assert len(connection.sql(page.duckdb).fetchall()) == 1
