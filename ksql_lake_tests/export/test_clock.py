"""Whose clock closes days: the server's bounds ours, and a difference is warned of or stops the closing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ksql_lake.errors import ConfigError
from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.export.certification import certify
from ksql_lake.export.facts import is_closed, summary
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.closing import read_to_end
from ksql_lake.lake.days import day_of, day_start
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.stream_server import StreamServer
from ksql_lake_tests.judges.zones import daytime_zone

ZONE = daytime_zone()
TODAY = day_of(datetime.now(UTC), ZONE)
YESTERDAY = TODAY - timedelta(days=1)
FEED = StreamFeed(
    name="s",
    kind="stream",
    source="S",
    start_date=TODAY - timedelta(days=3),
    timezone=ZONE.key,
    lookback_days=0,
)


@pytest.fixture
def server() -> Iterator[StreamServer]:
    """A stream with a row in each of the last four days."""
    with StreamServer([("ID", "BIGINT")]) as made:
        for back in range(4):
            made.rows.append((day_start(TODAY - timedelta(days=back), ZONE) + 1000, [back]))
        yield made


def export(server: StreamServer, lake: Lake) -> ExportResult:
    """Export the feed with a client of its own."""
    with KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client:
        return export_feed(FEED, client, lake)


def closed(lake: Lake) -> list[date]:
    """The days that the lake calls closed."""
    looked, now = lake.feed(FEED).state().looked, datetime.now(UTC)
    days = [TODAY - timedelta(days=back) for back in range(3, -4, -1)]
    return [day for day in days if read_to_end(looked, day, ZONE, now=now)]


def test_the_server_tells_its_time_and_the_certificate_says_so(server: StreamServer, tmp_path: Path) -> None:
    """With clocks that agree the days before today are closed, certified by the server's clock."""
    lake = Lake(tmp_path)

    result = export(server, lake)

    assert (result.new, result.clock) == (4, "server")
    assert closed(lake) == [TODAY - timedelta(days=back) for back in (3, 2, 1)]
    certificate = lake.feed(FEED).certificate(str(YESTERDAY))
    assert certificate is not None
    assert certificate.clock == "server"
    assert server.asked[-1] == "SELECT UNIX_TIMESTAMP() FROM `S` LIMIT 1;"


def test_a_difference_of_minutes_is_warned_of_and_the_earlier_clock_counts(
    server: StreamServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half an hour ahead of the server, a reading is dated by the server's clock, and that is said."""
    server.ahead = timedelta(minutes=-30)
    lake = Lake(tmp_path)
    before = datetime.now(UTC)

    with caplog.at_level(logging.WARNING):
        result = export(server, lake)

    assert result.read_at is not None
    assert result.read_at < before - timedelta(minutes=29)
    read = lake.feed(FEED).state().last_read
    assert read is not None
    assert (read.clock, round(read.clock_ahead / 60)) == ("server", 30)
    text = "s: our clock is 30 minutes ahead of the server's: days are closed by the earlier of the two"
    assert text in caplog.messages


@pytest.mark.parametrize("hours", [-72, 72])
def test_a_difference_of_hours_closes_no_day(
    server: StreamServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, hours: int
) -> None:
    """Three days apart, whichever clock is wrong, the rows land and no day is closed or certified."""
    server.ahead = timedelta(hours=hours)
    lake = Lake(tmp_path)

    with caplog.at_level(logging.WARNING):
        result = export(server, lake)

    assert (result.new, result.clock) == (4, "disputed")
    assert closed(lake) == []
    assert lake.feed(FEED).state().certified == {}
    assert not any(is_closed(result, part.partition) for part in result.partitions)
    which = "ahead of" if hours < 0 else "behind"
    assert f"our clock is 72.0 hours {which} the server's: the rows land, but no day is closed" in caplog.text
    assert "no day was closed: our clock and the server's differ by more than an hour" in summary(result)
    server.ahead = timedelta(0)
    export(server, lake)
    assert YESTERDAY in closed(lake)


def test_a_disputed_clock_leaves_closed_days_closed(server: StreamServer, tmp_path: Path) -> None:
    """What a sound reading closed stays closed when a later one cannot be dated."""
    lake = Lake(tmp_path)
    export(server, lake)
    before = closed(lake)
    server.ahead = timedelta(days=-9)

    export(server, lake)

    assert closed(lake) == before != []


def test_a_proxys_date_serves_where_the_server_does_not_tell(server: StreamServer, tmp_path: Path) -> None:
    """Where UNIX_TIMESTAMP() is refused, the Date header of a proxy bounds our clock in its place."""
    server.ahead, server.proxy_ahead = None, timedelta(minutes=-20)

    result = export(server, Lake(tmp_path))

    assert result.clock == "proxy"
    assert result.read_at is not None
    assert result.read_at < datetime.now(UTC) - timedelta(minutes=19)


def test_without_any_server_time_the_certificate_says_client_clock(
    server: StreamServer, tmp_path: Path
) -> None:
    """Our own clock is never passed off as the server's: certificate and summary say whose it was."""
    server.ahead = None
    lake = Lake(tmp_path)

    result = export(server, lake)

    certificate = lake.feed(FEED).certificate(str(YESTERDAY))
    assert certificate is not None
    assert certificate.clock == "client"
    assert "days were closed by the client clock: the server's could not be asked" in summary(result)


def test_the_time_is_asked_once_for_many_feeds(server: StreamServer, tmp_path: Path) -> None:
    """One client asks the server's time once in a while, not with each feed."""
    with KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client:
        for _ in range(3):
            export_feed(FEED, client, Lake(tmp_path), days=Days(YESTERDAY, TODAY))

    assert sum("UNIX_TIMESTAMP" in sql for sql in server.asked) == 1


def test_a_day_that_the_server_has_not_ended_cannot_be_certified(server: StreamServer, tmp_path: Path) -> None:
    """With a fast clock of ours a day seems over; the server's clock decides, and the error says so."""
    server.ahead = timedelta(days=-2)

    with (
        KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client,
        pytest.raises(ConfigError, match=f"{YESTERDAY} has not ended yet in .* by the server's clock"),
    ):
        certify(FEED, YESTERDAY, client, Lake(tmp_path))
