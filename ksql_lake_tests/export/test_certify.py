"""Certifying a day: the lake against its source, hour by hour."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import ConfigError
from ksql_lake.export import Days, export_feed
from ksql_lake.export.certification import certify
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
    with DevServer.start() as server, KsqlClient(load_settings(ksqldb_url=server.url)) as client:
        client.execute(
            "CREATE STREAM CLICKS (ID INTEGER, P INTEGER, O BIGINT) "
            "WITH (KAFKA_TOPIC='clicks', VALUE_FORMAT='JSON', PARTITIONS=2);"
        )
        append(client, *ROWS)
        yield client


def append(client: KsqlClient, *rows: dict[str, int]) -> None:
    """Append rows on the server."""
    lines = b"\n".join(msgspec.json.encode(row) for row in rows)
    requests.post(f"{client.url}/devserver/sources/CLICKS/rows", data=lines, timeout=10).raise_for_status()


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
