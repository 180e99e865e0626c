"""Sources without feeds, feeds without sources, and days that Kafka still has, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.inventory import retention_of
from ksql_lake.lake import Lake
from ksql_lake.lake.days import Days
from ksql_lake.report.attention import attention
from ksql_lake.report.lake_model import FeedWithoutSource, KafkaGaps, ServerSide, SourceWithoutFeed
from ksql_lake.settings import load_settings
from ksql_lake_tests.lake.landing import stream_feed, table_feed
from ksql_lake_tests.report.lakes import NOON, land_days, of_day, report_of

DAY_MS = 86_400_000
STATEMENTS = (
    f"CREATE STREAM EVENTS (ID BIGINT) WITH (RETENTION_MS={3 * DAY_MS}, KAFKA_TOPIC='e', VALUE_FORMAT='JSON');",
    "CREATE STREAM FOREVER (ID BIGINT) WITH (RETENTION_MS='-1', KAFKA_TOPIC='f', VALUE_FORMAT='JSON');",
    "CREATE STREAM SILENT (ID BIGINT) WITH (KAFKA_TOPIC='s', VALUE_FORMAT='JSON');",
    "CREATE TABLE USERS (ID BIGINT PRIMARY KEY) WITH (KAFKA_TOPIC='u', VALUE_FORMAT='JSON');",
)


@pytest.fixture(scope="module")
def client() -> Iterator[KsqlClient]:
    """A client of a server with these sources."""
    with DevServer.start() as server, KsqlClient(load_settings(ksqldb_url=server.url)) as made:
        for statement in STATEMENTS:
            made.execute(statement)
        yield made


def day(number: int) -> date:
    """A day of January 2025."""
    return date(2025, 1, number)


def test_sources_and_feeds_are_held_against_each_other(client: KsqlClient, tmp_path: Path) -> None:
    """A source without a feed is silent, one of an archived feed is not; a feed without its source is named."""
    today = "2025-01-20"
    report = report_of(
        tmp_path,
        stream_feed(start_date=today),
        table_feed(source="GONE"),
        stream_feed(name="off", source="ALSO_GONE", enabled=False, start_date=today),
        archived=[stream_feed(name="away", source="FOREVER")],
        client=client,
    )

    assert report.server == ServerSide(
        asked=True,
        url=client.url,
        sources_without_feed=(SourceWithoutFeed("SILENT", "stream"), SourceWithoutFeed("USERS", "table")),
        feeds_without_source=(FeedWithoutSource("users", "GONE"),),
    )
    told = {(point.label, point.subject): point for point in attention(report)}
    assert told["no source", "users"].text == "the server has no GONE"
    assert told["no feed", "2 sources"].text == "no feed exports SILENT, USERS"


def test_days_are_sorted_by_what_kafka_still_has(client: KsqlClient, tmp_path: Path) -> None:
    """Three days of retention at noon of the 20th: 18th and 19th whole, half of the 17th, older ones gone."""
    feed = stream_feed(start_date="2025-01-14")
    land_days(Lake(tmp_path), feed, [], days=(day(18), day(18)), read_at=datetime(2025, 1, 18, 9, tzinfo=UTC))
    land_days(Lake(tmp_path), feed, [], days=(day(15), day(15)))

    report = report_of(tmp_path, feed, client=client)

    assert report.server.gaps == (
        KafkaGaps(
            "events",
            "EVENTS",
            72,
            "for 3 d, by the source's statement",
            deliverable=(Days(day(18), day(19)),),
            fading=(Days(day(17), day(17)),),
            lost=(Days(day(14), day(14)), Days(day(16), day(16))),
        ),
    )
    texts = {point.label: point.text for point in attention(report)}
    assert texts["lost days"] == "2 days Kafka no longer keeps: 2025-01-14, 2025-01-16"
    assert texts["export now"].startswith("Kafka deletes 2025-01-17 soon, or has begun to (it keeps rows")


def test_without_known_retention_nothing_is_claimed(client: KsqlClient, tmp_path: Path) -> None:
    """Without RETENTION_MS, or without a source, the days are unknown; without limit all are still there."""
    feeds = [
        stream_feed(name=name, source=source, start_date="2025-01-18")
        for name, source in (("a", "SILENT"), ("b", "GONE"), ("c", "FOREVER"))
    ]

    silent, gone, forever = report_of(tmp_path, *feeds, client=client).server.gaps

    days = (Days(day(18), day(19)),)
    assert (silent.unknown, silent.retention) == (
        days,
        "for an unknown time: the source's statement names no RETENTION_MS",
    )
    assert (gone.unknown, gone.retention) == (days, "for an unknown time: the server has no such source")
    assert (forever.deliverable, forever.retention) == (days, "without limit, by the source's statement")


def test_days_are_those_of_the_feeds_zone(client: KsqlClient, tmp_path: Path) -> None:
    """The edge of retention falls into the feed's own days: at noon UTC it is the 21st in Kiritimati."""
    feed = stream_feed(start_date="2025-01-16", timezone="Pacific/Kiritimati")

    (gaps,) = report_of(tmp_path, feed, client=client).server.gaps

    assert gaps.lost == (Days(day(16), day(17)),)
    assert gaps.fading == (Days(day(18), day(18)),)
    assert gaps.deliverable == (Days(day(19), day(20)),)


def test_a_complete_feed_has_no_gaps(client: KsqlClient, tmp_path: Path) -> None:
    """Only days that have ended and are not complete are asked about; today is none of them."""
    feed = stream_feed(start_date="2025-01-19")
    land_days(Lake(tmp_path), feed, [], days=(day(19), day(19)))

    assert report_of(tmp_path, feed, client=client).server.gaps == ()


def test_a_server_that_does_not_answer_is_part_of_the_report(tmp_path: Path) -> None:
    """The rest of the report is there, and says why the server's part is not."""
    with KsqlClient(load_settings(attempts=1)) as nobody:
        report = report_of(tmp_path, stream_feed(), client=nobody)

    assert (report.server.asked, report.server.url) == (True, "http://127.0.0.1:9")
    assert report.server.problem == "server http://127.0.0.1:9: cannot connect: connection refused"
    assert report.server.gaps == ()


def test_without_a_client_the_server_is_not_asked(tmp_path: Path) -> None:
    """No client, no claim."""
    assert report_of(tmp_path, stream_feed()).server == ServerSide(asked=False)


@pytest.mark.parametrize(
    ("properties", "hours", "known"),
    [
        ("RETENTION_MS=3600000", 1, True),
        ("PARTITIONS=1, retention_ms = '7200000'", 2, True),
        ("KAFKA_TOPIC='x'", None, False),
        ("RETENTION_MS=-1", None, True),
        ("RETENTION_MS=9223372036854775807", None, True),
        ("CLEANUP_POLICY='compact', RETENTION_MS=3600000", None, True),
        ("CLEANUP_POLICY='compact,delete', RETENTION_MS=3600000", 1, True),
        ("KAFKA_TOPIC='RETENTION_MS=1'", None, False),
    ],
)
def test_retention_is_read_from_the_statement(properties: str, hours: float | None, *, known: bool) -> None:
    """However it is written; what is no property is not taken for one, and the largest number is no limit."""
    found = retention_of(f"CREATE STREAM S (A INT) WITH ({properties});")

    assert (found.hours, found.known) == (hours, known)


def test_the_present_is_the_reports_own(tmp_path: Path, client: KsqlClient) -> None:
    """What fades today is lost in a week."""
    feed = stream_feed(start_date="2025-01-17")

    now, later = (
        report_of(tmp_path, feed, client=client, now=NOON + timedelta(days=after)).server.gaps[0]
        for after in (0, 7)
    )

    assert now.fading == (Days(day(17), day(18)),)
    assert later.lost == (Days(day(17), day(23)),)


def test_a_day_is_asked_for_before_kafka_begins_to_delete_it(tmp_path: Path, client: KsqlClient) -> None:
    """As early as the sensor alerts: a quarter of the retention before the first unread row goes."""
    feed = stream_feed(start_date="2025-01-18")

    calm, soon = (
        report_of(tmp_path, feed, client=client, now=datetime(2025, 1, 20, hour, tzinfo=UTC)) for hour in (5, 7)
    )

    assert (calm.server.gaps[0].deliverable, calm.server.gaps[0].fading) == ((Days(day(18), day(19)),), ())
    assert (soon.server.gaps[0].deliverable, soon.server.gaps[0].fading) == (
        (Days(day(19), day(19)),),
        (Days(day(18), day(18)),),
    )
    assert [sum(point.label == "export now" for point in attention(made)) for made in (calm, soon)] == [0, 1]


def test_feeds_that_lack_the_same_days_are_one_point(tmp_path: Path) -> None:
    """An outage of two days is one point with all its feeds; a feed that lacks another day has its own."""
    feeds = [stream_feed(name=name, start_date="2025-01-16") for name in ("a", "b", "c")]
    for feed, lacking in zip(feeds, (17, 17, 18), strict=True):
        for read in sorted({16, 17, 18, 19, 20} - {lacking}):
            land_days(Lake(tmp_path), feed, of_day(day(read), 1), days=(day(read), day(read)))

    points = [point for point in attention(report_of(tmp_path, *feeds)) if point.label == "incomplete"]

    assert [(point.subject, point.feeds) for point in points] == [("2 feeds", ("a", "b")), ("c", ("c",))]
    assert points[0].text == "1 day never read: 2025-01-17: a, b"
    assert points[0].next_step == "ksql-lake export --all"
