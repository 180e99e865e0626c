"""Event times in another unit than the feed says: found before they close days, and corrected by one key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from msgspec import structs

from ksql_lake.errors import ConfigError
from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.export.certification import certify
from ksql_lake.export.export_plan import plan_export
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import examine
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.stream_server import StreamServer

FIRST = date(2025, 1, 6)
MIDNIGHT = 1_736_121_600_000
UNITS = {"s": (1, 1000), "ms": (1, 1), "us": (1000, 1), "ns": (1_000_000, 1)}
DAYS = Days(FIRST, date(2025, 1, 8))


def feed(unit: str | None = None, event_time: str = "AT") -> StreamFeed:
    """A feed by the column AT."""
    keys = {} if unit is None else {"event_time_unit": unit}
    given = {"name": "s", "kind": "stream", "source": "S", "start_date": "2025-01-06", "event_time": event_time}
    return StreamFeed.model_validate(given | keys)


@pytest.fixture
def server() -> Iterator[StreamServer]:
    """A stream whose rows came much later than they happened."""
    with StreamServer([("ID", "BIGINT"), ("AT", "BIGINT")]) as made:
        yield made


def fill(server: StreamServer, unit: str) -> None:
    """Fill the server with a row at the first and the last second of two days, in a unit."""
    times, parts = UNITS[unit]
    moments = [MIDNIGHT + day * 86_400_000 + second * 1000 for day in (0, 1) for second in (0, 86_399)]
    server.rows = [(MIDNIGHT * 2, [number, at * times // parts]) for number, at in enumerate(moments)]


def export(server: StreamServer, lake: Lake, wanted: StreamFeed, days: Days | None = DAYS) -> ExportResult:
    """Export with a client of its own."""
    with KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client:
        return export_feed(wanted, client, lake, days=days)


@pytest.mark.parametrize(("unit", "name"), [("s", "seconds"), ("us", "microseconds"), ("ns", "nanoseconds")])
def test_another_unit_is_named_and_nothing_is_closed(
    server: StreamServer, tmp_path: Path, unit: str, name: str
) -> None:
    """A window without rows of a source with rows: the error says the unit, and the key that corrects it."""
    fill(server, unit)
    lake = Lake(tmp_path)

    with pytest.raises(ConfigError) as caught:
        export(server, lake, feed())

    value = server.rows[0][1][1]
    assert str(caught.value).splitlines()[0] == (
        f"feed s: no row of S is in these days, but a row has AT {value}: it seems to count {name} "
        "(2025-01-06 00:00 UTC), not milliseconds"
    )
    assert f'Set "event_time_unit": "{unit}" in the feed file' in str(caught.value)
    assert server.asked[-1] == "SELECT `AT` FROM `S` LIMIT 1;"
    assert lake.feed(feed()).state().looked == {}


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_lands_in_its_days(server: StreamServer, tmp_path: Path, unit: str) -> None:
    """With the right key rows land on their days, values as they are; doctor and certify agree."""
    fill(server, unit)
    lake, wanted = Lake(tmp_path), feed(unit)

    result = export(server, lake, wanted)

    assert [part.records for part in result.partitions] == [2, 2, 0]
    held = lake.feed(wanted).dataset(columns=["AT"]).to_table().column("AT").to_pylist()
    assert sorted(held) == [row[1][1] for row in server.rows]
    assert export(server, lake, wanted).new == 0
    assert examine(lake.storage, lake.feed(wanted).layout).sound
    with KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client:
        assert certify(wanted, FIRST, client, lake).sound


def test_an_empty_window_of_the_right_unit_is_empty(server: StreamServer, tmp_path: Path) -> None:
    """Rows of other days, a NULL first row, or no row at all are no mistake of the feed."""
    fill(server, "s")
    nothing = Days(date(2025, 3, 1), date(2025, 3, 2))
    assert export(server, Lake(tmp_path / "a"), feed("s"), nothing).read == 0
    server.rows = [(MIDNIGHT * 2, [1, None])]
    assert export(server, Lake(tmp_path / "b"), feed(), nothing).read == 0
    server.rows = []
    assert export(server, Lake(tmp_path / "c"), feed(), nothing).read == 0


def test_mending_the_feed_opens_the_days_again(server: StreamServer, tmp_path: Path) -> None:
    """Days that an older release closed by the wrong unit are read once the feed says the right one."""
    lake, wrong, right = Lake(tmp_path), feed(), feed("s")
    export(server, lake, wrong)
    _forget_event_time(lake, wrong)
    assert set(lake.feed(wrong).state().looked) == {"2025-01-06", "2025-01-07", "2025-01-08"}
    fill(server, "s")

    plan = plan_export(right, lake)
    assert plan.days is not None
    assert plan.days.first == FIRST
    assert plan.reason == "event_time was AT and found no row; every day is read by AT in s"
    export(server, lake, right, Days(date(2025, 1, 7), date(2025, 1, 7)))
    assert set(lake.feed(right).state().looked) == {"2025-01-07"}
    assert export(server, lake, right, None).new == 2
    assert export(server, lake, right, DAYS).new == 0


def test_what_a_release_before_the_key_read_needs_no_reading_again(
    server: StreamServer, tmp_path: Path
) -> None:
    """A lake whose feed did not change stays closed, although its commits do not name the event time."""
    lake, unchanged = Lake(tmp_path), feed()
    export(server, lake, unchanged)
    _forget_event_time(lake, unchanged)

    assert lake.feed(unchanged).state().event_clock == "AT"
    plan = plan_export(unchanged, lake)
    assert plan.days is not None
    assert plan.days.first > FIRST


def test_rowtime_has_one_unit() -> None:
    """ROWTIME counts milliseconds, whatever a feed would like."""
    with pytest.raises(ValueError, match="ROWTIME always counts milliseconds"):
        feed("s", event_time="ROWTIME")


def _forget_event_time(lake: Lake, wanted: StreamFeed) -> None:
    """Write the first commit as a release did that knew one unit only."""
    log = lake.feed(wanted).log
    manifest = log.manifest(1)
    assert manifest.read is not None
    older = structs.replace(manifest, read=structs.replace(manifest.read, event_time=""))
    Path(lake.root, log.layout.manifest(1)).write_bytes(older.encode())
    Path(lake.root, log.layout.checkpoint).unlink(missing_ok=True)
