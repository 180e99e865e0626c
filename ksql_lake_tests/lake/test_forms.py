"""Values that a later release reads more exactly: rows of an early one are known, and none lands twice."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import Commit, Lake, ReadFacts
from ksql_lake.lake.doctor import examine, repair
from ksql_lake.lake.files.precision import EXACT, OLDEST, blurred
from ksql_lake.lake.files.sql_values import terms
from ksql_lake.lake.files.statistics import NanColumns
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.schema import Schema, arrow_schema, parse_schema
from ksql_lake_tests.lake.landing import FIRST, stream_feed

COLUMNS = parse_schema(
    "`ROWTIME` TIMESTAMP, `ID` BIGINT, `AT` TIME, `ATS` ARRAY<TIME>, `BY_HOUR` MAP<STRING, TIME>, "
    "`MONEY` STRUCT<`AMOUNT` DECIMAL(18, 2), `PARTS` ARRAY<DECIMAL(18, 2)>, `AT` INTEGER>, "
    "`FLAT` DECIMAL(18, 2)"
)
EXACTLY = Decimal("1234567890123456.78")
BLURRED = Decimal("1234567890123456.80")
"""What becomes of it by way of a double, whose shortest digits are 1.2345678901234568E15."""


def row(number: int, *, exact: bool, millis: int = 500, amount: Decimal = EXACTLY) -> dict[str, Any]:
    """A row as an early release read it, or as it is."""
    at = time(0, 0, 1, millis * 1000 if exact else 0)
    money = amount if exact else Decimal(repr(float(amount))).quantize(Decimal("0.01"))
    moment = datetime.combine(FIRST, time(), UTC) + timedelta(seconds=number)
    return {
        "ROWTIME": moment,
        "ID": number,
        "AT": at,
        "ATS": [at, None],
        "BY_HOUR": [("b", at), ("a", at)],
        "MONEY": {"AMOUNT": money, "PARTS": [money], "AT": 1500},
        "FLAT": amount,
    }


def land(
    lake: Lake,
    rows: list[dict[str, Any]],
    *,
    form: int,
    feed: StreamFeed | None = None,
    columns: Schema = COLUMNS,
) -> Commit:
    """Land rows that were read in a form."""
    read = ReadFacts(
        source="EVENTS", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00", form=form
    )
    days: tuple[date, date] = (FIRST, FIRST)
    with lake.feed(feed or stream_feed()).stage(columns, read=read, days=days) as staging:
        staging.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(columns)))
        return staging.commit()


def new(commit: Commit) -> int:
    """How many rows were new."""
    return sum(count.new for count in commit.manifest.counts)


def test_rows_of_an_early_release_are_known_when_they_are_read_exactly(tmp_path: Path) -> None:
    """A day read in the old form is compared in it: what is there stays once, what is new lands exact."""
    lake = Lake(tmp_path)
    land(lake, [row(number, exact=False) for number in range(5)], form=OLDEST)

    commit = land(lake, [row(number, exact=True) for number in range(6)], form=EXACT)

    assert new(commit) == 1
    assert commit.manifest.form == EXACT
    assert new(land(lake, [row(number, exact=True) for number in range(6)], form=EXACT)) == 0
    table = lake.feed(stream_feed()).dataset().to_table().sort_by("ID").to_pylist()
    assert [entry["MONEY"]["AMOUNT"] for entry in table] == [BLURRED] * 5 + [EXACTLY]
    assert table[5]["AT"] == time(0, 0, 1, 500_000)


def test_twins_of_the_old_form_are_counted(tmp_path: Path) -> None:
    """Rows that were alike in the old form and are not now are as many as they were, and no more land."""
    lake = Lake(tmp_path)
    land(lake, [row(1, exact=False), row(1, exact=False)], form=OLDEST)

    exact = [row(1, exact=True, millis=millis) for millis in (100, 200, 300)]

    assert new(land(lake, exact, form=EXACT)) == 1
    assert new(land(lake, exact, form=EXACT)) == 0


def test_a_row_of_the_old_form_leaves_the_row_that_is_held_exactly(tmp_path: Path) -> None:
    """A row of the old form is one of the twins that the lake does not hold exactly, in any order."""
    lake = Lake(tmp_path)
    one, other = (row(1, exact=True, millis=millis) for millis in (100, 200))
    land(lake, [row(1, exact=False)], form=OLDEST)

    assert new(land(lake, [one, other], form=EXACT)) == 1
    assert new(land(lake, [one, other], form=EXACT)) == 0
    assert new(land(lake, [other, one], form=EXACT)) == 0


def test_exact_rows_are_told_apart_exactly(tmp_path: Path) -> None:
    """Between rows that were both read exactly, a millisecond and a hundredth make another event."""
    lake = Lake(tmp_path)
    land(lake, [row(1, exact=True)], form=EXACT)

    assert new(land(lake, [row(1, exact=True, millis=501)], form=EXACT)) == 1
    assert new(land(lake, [row(1, exact=True, amount=BLURRED)], form=EXACT)) == 1


def test_a_key_of_the_old_form_is_known(tmp_path: Path) -> None:
    """A key column that is read more exactly now still finds the rows that are held."""
    lake, feed = Lake(tmp_path), stream_feed(identity={"by": "key", "columns": ["ID", "AT"]})
    land(lake, [row(1, exact=False), row(2, exact=False)], form=OLDEST, feed=feed)

    assert new(land(lake, [row(number, exact=True) for number in (1, 2, 3)], form=EXACT, feed=feed)) == 1


def test_a_server_that_tells_less_again_doubles_nothing(tmp_path: Path) -> None:
    """Rows that were read exactly are known when they come in the old form."""
    lake = Lake(tmp_path)
    land(lake, [row(1, exact=True), row(2, exact=True)], form=EXACT)

    assert new(land(lake, [row(number, exact=False) for number in (1, 2, 3)], form=OLDEST)) == 1


def test_files_of_two_forms_are_never_merged(tmp_path: Path) -> None:
    """A merge leaves each row in the form in which it was read, and so does doctor when the log is lost."""
    lake = Lake(tmp_path)
    for number in (1, 2):
        land(lake, [row(number, exact=False)], form=OLDEST)
    for number in (3, 4):
        land(lake, [row(number, exact=True)], form=EXACT)
    for _ in range(2):
        list(lake.feed(stream_feed()).compact(now=datetime(2025, 3, 1, tzinfo=UTC)))
    state = lake.feed(stream_feed()).state()
    assert sorted(state.form(file) for file in state.files()) == [OLDEST, EXACT]

    layout = FeedLayout("stream", "events")
    for path in (tmp_path / layout.metadata).rglob("*.json"):
        path.unlink()
    list(repair(lake.storage, examine(lake.storage, layout)))

    state = Lake(tmp_path).feed(stream_feed()).state()
    assert sorted(state.form(file) for file in state.files()) == [OLDEST, EXACT]
    assert new(land(Lake(tmp_path), [row(number, exact=True) for number in range(1, 5)], form=EXACT)) == 0


def test_files_that_are_written_anew_keep_their_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compact` with `nan` merges no file of another form into one whose statistics leave NaN out."""
    lake, columns = Lake(tmp_path), parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `AT` TIME, `D` DOUBLE")

    def measured(number: int, *, exact: bool, millis: int = 500) -> dict[str, Any]:
        whole = row(number, exact=exact, millis=millis)
        return {name: whole[name] for name in ("ROWTIME", "ID", "AT")} | {"D": math.nan if number == 1 else 1.0}

    with monkeypatch.context() as patch:
        # As a release wrote it that did not look for NaN.
        patch.setattr(NanColumns, "add", lambda *_: None)
        patch.setattr(NanColumns, "note", {})
        land(lake, [measured(number, exact=False) for number in (1, 3)], form=OLDEST, columns=columns)
    land(lake, [measured(2, exact=True, millis=100)], form=EXACT, columns=columns)
    assert len(list(lake.feed(stream_feed()).compact(nan=True))) == 1

    state = lake.feed(stream_feed()).state()
    assert sorted(state.form(file) for file in state.files()) == [OLDEST, EXACT]
    late = [measured(2, exact=True, millis=millis) for millis in (100, 900)]
    assert new(land(lake, late, form=EXACT, columns=columns)) == 1


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("TIME", True),
        ("ARRAY<TIME>", True),
        ("MAP<TIME, STRING>", True),
        ("STRUCT<`T` TIME>", False),
        ("DECIMAL(9, 2)", False),
        ("ARRAY<DECIMAL(9, 2)>", False),
        ("STRUCT<`D` DECIMAL(9, 2)>", True),
        ("ARRAY<STRUCT<`A` ARRAY<DECIMAL(9, 2)>>>", True),
        ("BIGINT", False),
    ],
)
def test_which_types_the_old_form_blurs(declared: str, says: bool) -> None:
    """TIME outside of a STRUCT, and DECIMAL inside of one."""
    (column,) = parse_schema(f"`X` {declared}")

    assert blurred(column.type, OLDEST) is says
    assert not blurred(column.type, EXACT)


@given(st.decimals(min_value=-(10**15), max_value=10**15, places=2, allow_nan=False, allow_infinity=False))
def test_any_decimal_equals_what_came_of_it_by_way_of_a_double(value: Decimal) -> None:
    """In the old form an exact DECIMAL is the same as the one that the double's digits gave."""
    (column,) = parse_schema("`X` STRUCT<`D` DECIMAL(18, 2)>")
    (term,) = terms("data.X", column.type, form=OLDEST)
    old = Decimal(repr(float(value))).quantize(Decimal("0.01"))
    rows = " UNION ALL ".join(
        f"SELECT {{'D': CAST('{number}' AS DECIMAL(18, 2))}} AS X" for number in (value, old)
    )

    ((kinds,),) = duckdb.execute(f"SELECT count(DISTINCT {term}) FROM ({rows}) AS data").fetchall()

    assert kinds == 1
