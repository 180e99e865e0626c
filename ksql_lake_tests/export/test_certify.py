"""Certifying a day: the lake against its source, hour by hour."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import ConfigError
from ksql_lake.export import Days, export_feed
from ksql_lake.export.certification import certify
from ksql_lake.export.table_certification import certify_table
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

DAY = date(2025, 1, 7)
MIDNIGHT = int(datetime(2025, 1, 7, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000
FEED = FEED_ADAPTER.validate_python(
    {
        "name": "clicks",
        "kind": "stream",
        "source": "CLICKS",
        "start_date": "2025-01-06",
        "rename": {"ID": "CLICK"},
    }
)
OFFSETS = FEED_ADAPTER.validate_python(
    {
        "name": "clicks_lake",
        "kind": "stream",
        "source": "CLICKS",
        "start_date": "2025-01-06",
        "identity": {"by": "offset", "columns": ["P", "O"]},
    }
)
ROWS = [
    {"ID": number, "P": number % 2, "O": number // 2 * 2, "ROWTIME": MIDNIGHT + number * HOUR // 2}
    for number in range(20)
]


@pytest.fixture
def client() -> Iterator[KsqlClient]:
    """A client of a server with one stream of 20 clicks, two per hour."""
    with (
        DevServer.start() as server,
        KsqlClient(load_settings(ksqldb_url=server.url, quiet_seconds=0.5)) as client,
    ):
        client.execute(
            "CREATE STREAM CLICKS (ID INTEGER, P INTEGER, O BIGINT) "
            "WITH (KAFKA_TOPIC='clicks', VALUE_FORMAT='JSON', PARTITIONS=2);"
        )
        append(client, *ROWS)
        yield client


def append(client: KsqlClient, *rows: dict[str, Any], source: str = "CLICKS") -> None:
    """Append rows on the server."""
    lines = b"\n".join(msgspec.json.encode(row) for row in rows)
    requests.post(f"{client.url}/devserver/sources/{source}/rows", data=lines, timeout=10).raise_for_status()


def test_an_exported_day_equals_its_source(client: KsqlClient, tmp_path: Path) -> None:
    """An exported day is equal, row for row, and as its certificate says; looking changes nothing."""
    lake = Lake(tmp_path)
    export_feed(FEED, client, lake, days=Days(DAY, DAY))
    before = lake.feed(FEED).state()

    outcome = certify(FEED, DAY, client, lake)

    assert outcome.equal
    assert (outcome.source_rows, outcome.lake_rows) == (20, 20)
    assert outcome.source_checksum == outcome.lake_checksum
    assert outcome.certificate is not None
    assert outcome.certificate.checksum == outcome.lake_checksum
    assert outcome.as_certified
    assert lake.feed(FEED).state() == before


def test_hours_that_differ_are_named(client: KsqlClient, tmp_path: Path) -> None:
    """A late row, a lost row and a changed row are each found in their hour, and no other hour is named."""
    lake = Lake(tmp_path)
    export_feed(FEED, client, lake, days=Days(DAY, DAY))
    append(client, {"ID": 99, "P": 0, "O": 99, "ROWTIME": MIDNIGHT + 5 * HOUR})
    (file,) = Path(lake.root).rglob("*.parquet")
    table = pq.read_table(file, partitioning=None)
    ids = table.column("CLICK").to_pylist()
    changed = [None if number == 4 else number for number in ids]
    table = table.set_column(1, table.schema.field("CLICK"), pa.array(changed, pa.int32()))
    pq.write_table(table.filter([number != 16 for number in ids]), file)

    outcome = certify(FEED, DAY, client, lake)

    assert not outcome.equal
    assert [hour.text for hour in outcome.differences] == [
        "2025-01-07 02:00 UTC: as many rows, but not the same ones",
        "2025-01-07 05:00 UTC: 1 row is missing in the lake",
        "2025-01-07 08:00 UTC: 1 row is missing in the lake",
    ]


def test_a_day_never_exported_differs_in_every_hour_it_has(client: KsqlClient, tmp_path: Path) -> None:
    """Certifying an empty lake names what is missing instead of failing."""
    outcome = certify(FEED, DAY, client, Lake(tmp_path))

    assert (outcome.source_rows, outcome.lake_rows, outcome.certificate) == (20, 0, None)
    assert len(outcome.differences) == 10


def test_offsets_tell_gaps_and_duplicates(client: KsqlClient, tmp_path: Path) -> None:
    """A feed that knows offsets reports, per Kafka partition, first, last, gaps and duplicates."""
    lake = Lake(tmp_path)
    export_feed(OFFSETS, client, lake, days=Days(DAY, DAY))

    outcome = certify(OFFSETS, DAY, client, lake)

    assert outcome.equal
    assert [(p.kafka_partition, p.first, p.last, p.rows, p.gaps, p.duplicates) for p in outcome.offsets] == [
        (0, 0, 18, 10, 9, 0),
        (1, 0, 18, 10, 9, 0),
    ]


def test_an_open_day_cannot_be_certified(client: KsqlClient, tmp_path: Path) -> None:
    """A day to which events may still be added has no certificate, and the error says so."""
    with pytest.raises(ConfigError, match="2025-01-07 has not ended yet in UTC"):
        certify(FEED, DAY, client, Lake(tmp_path), now=datetime(2025, 1, 7, 23, 59, tzinfo=UTC))


def test_rows_outside_of_the_day_are_a_difference(client: KsqlClient, tmp_path: Path) -> None:
    """Rows of another day in the day's files are counted, named, and never excused as deleted by Kafka."""
    lake = Lake(tmp_path)
    export_feed(FEED, client, lake, days=Days(DAY, DAY))
    (file,) = Path(lake.root).rglob("*.parquet")
    table = pq.read_table(file, partitioning=None)
    strays = table.slice(0, 5)
    moved = pa.array([datetime(2025, 1, 9, 1, tzinfo=UTC)] * 5, strays.schema.field("ROWTIME").type)
    strays = strays.set_column(0, strays.schema.field("ROWTIME"), moved)
    pq.write_table(pa.concat_tables([table, strays]), file)

    outcome = certify(FEED, DAY, client, lake)

    assert not outcome.equal
    assert not outcome.whole
    assert (outcome.source_rows, outcome.lake_rows, outcome.as_certified) == (20, 25, False)
    assert [hour.text for hour in outcome.differences] == [
        "2025-01-09 01:00 UTC: outside of the day, 5 rows are in the lake only"
    ]


def test_a_certificate_is_compared_by_checksum(client: KsqlClient, tmp_path: Path) -> None:
    """As many rows as certified, but others, in a column that the feed no longer reads: not as certified."""
    lake = Lake(tmp_path)
    export_feed(FEED, client, lake, days=Days(DAY, DAY))
    (file,) = Path(lake.root).rglob("*.parquet")
    table = pq.read_table(file, partitioning=None)
    changed = pa.array([7] * table.num_rows, pa.int64())
    at = table.schema.get_field_index("O")
    pq.write_table(table.set_column(at, table.schema.field("O"), changed), file)
    narrower = FEED.model_copy(update={"columns": ("ID",)})

    outcome = certify(narrower, DAY, client, lake)

    assert outcome.columns == ("ROWTIME", "CLICK")
    assert outcome.equal
    assert outcome.as_certified is False
    assert not outcome.sound
    assert not outcome.whole


def test_a_widened_column_is_still_as_certified(client: KsqlClient, tmp_path: Path) -> None:
    """Files from before a column was widened or added keep the checksum that they were certified with."""
    lake = Lake(tmp_path)
    narrow = FEED.model_copy(update={"columns": ("ID",)})
    export_feed(narrow, client, lake, days=Days(DAY, DAY))
    append(client, {"ID": 99, "P": 0, "O": 99, "ROWTIME": MIDNIGHT + 5 * HOUR})
    export_feed(FEED, client, lake, days=Days(DAY, DAY))

    outcome = certify(FEED, DAY, client, lake)

    assert (outcome.columns, outcome.lake_rows) == (("ROWTIME", "CLICK"), 21)
    assert outcome.sound


# After the source's columns changed.

CHANGED = FEED_ADAPTER.validate_python(
    {
        "name": "changed",
        "kind": "stream",
        "source": "CHANGED",
        "start_date": "2025-01-06",
        "on_schema_change": "new_version",
    }
)
NEXT_DAY = DAY + timedelta(days=1)
"""Exported after the change; DAY was exported before it."""


def recreate(client: KsqlClient, columns: str, values: list[Any], *, kind: str = "STREAM") -> None:
    """Let the source CHANGED have other columns: an ID, 0 to 9, and the values in X, on DAY and on NEXT_DAY."""
    key = "INTEGER" if kind == "STREAM" else "INTEGER PRIMARY KEY"
    client.execute(f"DROP {kind} IF EXISTS CHANGED DELETE TOPIC;")
    client.execute(
        f"CREATE {kind} CHANGED (ID {key}, {columns}) "
        "WITH (KAFKA_TOPIC='changed', VALUE_FORMAT='JSON', PARTITIONS=1);"
    )
    rows = [
        {"ID": number, "X": values[number % len(values)], "ROWTIME": MIDNIGHT + day * 24 * HOUR + number}
        for day in range(2)
        for number in range(10)
    ]
    append(client, *rows, source="CHANGED")


def test_a_retyped_column_is_compared_as_it_landed(client: KsqlClient, tmp_path: Path) -> None:
    """Values of a column that landed as X_V2 are compared with X_V2; a change of any of them is found."""
    lake = Lake(tmp_path)
    recreate(client, "X INTEGER", [1, 2])
    export_feed(CHANGED, client, lake, days=Days(DAY, DAY))
    recreate(client, "X STRING", ["a", "b"])
    export_feed(CHANGED, client, lake, days=Days(NEXT_DAY, NEXT_DAY))

    equal = certify(CHANGED, NEXT_DAY, client, lake)
    recreate(client, "X STRING", ["a", "c"])
    different = certify(CHANGED, NEXT_DAY, client, lake)

    assert (equal.equal, equal.columns, equal.unseen) == (True, ("ROWTIME", "ID", "X_V2"), ())
    assert (different.equal, different.columns) == (False, ("ROWTIME", "ID", "X_V2"))


def test_a_retyped_event_time_gives_the_hours(client: KsqlClient, tmp_path: Path) -> None:
    """A day whose event time landed as X_V2 is compared by it, hour by hour."""
    lake, feed = Lake(tmp_path), CHANGED.model_copy(update={"event_time": "X"})
    recreate(client, "X BIGINT", [MIDNIGHT + 5 * HOUR])
    export_feed(feed, client, lake, days=Days(DAY, DAY))
    recreate(client, "X TIMESTAMP", ["2025-01-08T05:00:00.000", "2025-01-08T07:00:00.000"])
    export_feed(feed, client, lake, days=Days(NEXT_DAY, NEXT_DAY))

    outcome = certify(feed, NEXT_DAY, client, lake)

    assert (outcome.sound, outcome.columns) == (True, ("ROWTIME", "ID", "X_V2"))


@pytest.mark.parametrize(
    ("policy", "unseen"), [("new_version", ("X_V2", "X")), ("evolve", ("X",)), ("freeze", ("X",))]
)
def test_a_day_from_before_a_column_was_retyped_names_it(
    client: KsqlClient, tmp_path: Path, policy: str, unseen: tuple[str, ...]
) -> None:
    """Values of incompatible types are not compared and not called different; the result names the column."""
    lake, feed = Lake(tmp_path), CHANGED.model_copy(update={"on_schema_change": policy})
    recreate(client, "X INTEGER", [1, 2])
    export_feed(feed, client, lake, days=Days(DAY, DAY))
    recreate(client, "X STRING", ["1", "2"])

    outcome = certify(feed, DAY, client, lake)

    assert (outcome.sound, outcome.columns, outcome.unseen) == (True, ("ROWTIME", "ID"), unseen)


def test_columns_that_one_side_lacks_are_named(client: KsqlClient, tmp_path: Path) -> None:
    """A column that was added or dropped since the day was exported is not compared, and the result says so."""
    lake = Lake(tmp_path)
    recreate(client, "X INTEGER, OLD STRING", [1])
    export_feed(CHANGED, client, lake, days=Days(DAY, DAY))
    recreate(client, "X BIGINT, NEW STRING", [1])

    outcome = certify(CHANGED, DAY, client, lake)

    assert (outcome.sound, outcome.columns) == (True, ("ROWTIME", "ID", "X"))
    assert outcome.unseen == ("NEW", "OLD")


WIDE, NARROW = (
    "STRUCT<A INTEGER, B STRING, C STRUCT<D INTEGER, E INTEGER>>",
    "STRUCT<C STRUCT<E INTEGER>, A BIGINT>",
)
FULL: dict[str, Any] = {"A": 1, "B": "b", "C": {"D": 2, "E": 3}}
STRUCTS: list[Any] = [FULL, {"A": None, "B": "x", "C": None}, {"A": 4, "B": None, "C": {"D": 5, "E": None}}]
OTHER = {**FULL, "C": {"D": 2, "E": 4}}


@pytest.mark.parametrize(("before", "after"), [(WIDE, NARROW), (NARROW, WIDE)], ids=["lost", "gained"])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("{}", [*STRUCTS, None, FULL, OTHER]),
        ("ARRAY<{}>", [STRUCTS, None, [], [None, FULL], [None, OTHER]]),
        ("MAP<STRING, {}>", [{"x": FULL}, None, {}, {"x": None, "y": FULL}, {"x": None, "y": OTHER}]),
    ],
    ids=["struct", "array", "map"],
)
def test_structs_are_compared_in_the_fields_that_both_have(
    client: KsqlClient, tmp_path: Path, kind: str, before: str, after: str, values: list[Any]
) -> None:
    """A STRUCT with other fields than before is compared in those that stayed; the result names the others."""
    lake, (*same, one, other) = Lake(tmp_path), values
    recreate(client, f"X {kind.format(before)}", [*same, one])
    export_feed(CHANGED, client, lake, days=Days(DAY, DAY))
    recreate(client, f"X {kind.format(after)}", [*same, one])

    not_read_since = certify(CHANGED, DAY, client, lake)
    export_feed(CHANGED, client, lake, days=Days(NEXT_DAY, NEXT_DAY))
    from_before, from_after = (certify(CHANGED, day, client, lake) for day in (DAY, NEXT_DAY))
    recreate(client, f"X {kind.format(after)}", [*same, other])
    changed = [certify(CHANGED, day, client, lake).equal for day in (DAY, NEXT_DAY)]

    assert (not_read_since.sound, from_before.sound, from_after.sound) == (True, True, True)
    assert from_before.columns == from_after.columns == ("ROWTIME", "ID", "X")
    assert set(not_read_since.unseen) == set(from_before.unseen) == {"X->B", "X->C->D"}
    assert from_after.unseen == ()
    assert changed == [False, False]


TABLE = FEED_ADAPTER.validate_python(
    {"name": "changed", "kind": "table", "source": "CHANGED", "extraction": "push"}
)


@pytest.mark.parametrize(("before", "after"), [(WIDE, NARROW), (NARROW, WIDE)], ids=["lost", "gained"])
@pytest.mark.parametrize("kind", ["{}", "ARRAY<{}>", "MAP<STRING, {}>"], ids=["struct", "array", "map"])
def test_a_version_is_compared_in_the_fields_that_both_have(
    client: KsqlClient, tmp_path: Path, kind: str, before: str, after: str
) -> None:
    """Keys of a version are equal if what version and table both have is; what they have not is named."""
    lake = Lake(tmp_path)
    values = [
        {"{}": value, "ARRAY<{}>": [value], "MAP<STRING, {}>": {"x": value}}[kind] for value in (FULL, OTHER)
    ]
    recreate(client, f"X {kind.format(before)}, N INTEGER", values[:1], kind="TABLE")
    export_feed(TABLE, client, lake)
    recreate(client, f"X {kind.format(after)}, N STRING", values[:1], kind="TABLE")
    equal = certify_table(TABLE, "v1", client, lake)
    recreate(client, f"X {kind.format(after)}, N STRING", values, kind="TABLE")
    different = certify_table(TABLE, "v1", client, lake)

    assert (equal.equal, equal.equal_keys, equal.different) == (True, 10, 0)
    assert (set(equal.columns), set(equal.unseen)) == ({"ID", "X"}, {"N", "X->B", "X->C->D"})
    assert equal.as_dict()["unseen"] == list(equal.unseen)
    assert (different.equal, different.equal_keys, different.different) == (False, 5, 5)


def test_a_version_with_another_key_is_refused(client: KsqlClient, tmp_path: Path) -> None:
    """A version whose key had another type cannot be compared, and the error names the key column."""
    lake = Lake(tmp_path)
    recreate(client, "X INTEGER", [1], kind="TABLE")
    export_feed(TABLE, client, lake)
    client.execute("DROP TABLE CHANGED DELETE TOPIC;")
    client.execute(
        "CREATE TABLE CHANGED (ID STRING PRIMARY KEY, X INTEGER) "
        "WITH (KAFKA_TOPIC='changed', VALUE_FORMAT='JSON', PARTITIONS=1);"
    )

    with pytest.raises(ConfigError, match="the key column ID was INTEGER and is STRING now"):
        certify_table(TABLE, "v1", client, lake)
