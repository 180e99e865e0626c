"""What an export says of its rows: read is new, already there or dropped, with NULL in keys or without."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.export.facts import partition_facts, summary
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.report.lake_facts import read_history
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.stream_server import StreamServer

DAY = date(2025, 1, 6)
MIDNIGHT = 1_736_121_600_000


def feed(**identity: object) -> StreamFeed:
    """A feed whose row identity is K."""
    given = {"by": "key", "columns": ["K"], **identity}
    return StreamFeed.model_validate(
        {"name": "s", "kind": "stream", "source": "S", "start_date": "2025-01-06", "identity": given}
    )


@pytest.fixture
def server() -> Iterator[StreamServer]:
    """A stream of 40 rows, every other one without a key."""
    with StreamServer([("K", "STRING"), ("V", "BIGINT")]) as made:
        for number in range(40):
            made.rows.append((MIDNIGHT + number, [None if number % 2 else f"k{number}", number]))
        yield made


def export(server: StreamServer, root: Path, wanted: StreamFeed) -> ExportResult:
    """Export the day with a client of its own."""
    with KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client:
        return export_feed(wanted, client, Lake(root), days=Days(DAY, DAY))


def counts(result: ExportResult) -> tuple[int, int, int, int]:
    """Read, new, already there, dropped."""
    assert result.read == result.new + result.already_there + result.dropped
    return result.read, result.new, result.already_there, result.dropped


def test_rows_without_a_key_all_land_and_land_once(server: StreamServer, tmp_path: Path) -> None:
    """40 rows of which 20 have no key are 40 rows, and again nothing new."""
    assert counts(export(server, tmp_path, feed())) == (40, 40, 0, 0)
    assert counts(export(server, tmp_path, feed())) == (40, 0, 40, 0)
    server.rows.append(server.rows[1])
    assert counts(export(server, tmp_path, feed())) == (41, 1, 40, 0)


def test_a_feed_may_take_null_for_a_key(server: StreamServer, tmp_path: Path) -> None:
    """With `null_keys` equal one row without a key stays, and the others are dropped, not "already there"."""
    result = export(server, tmp_path, feed(null_keys="equal"))

    assert counts(result) == (40, 21, 0, 19)
    assert "40 rows read, 21 new, 0 already there, 19 dropped (a later row has their key), 0 late" in summary(
        result
    )
    assert partition_facts(result, str(DAY))["dropped_rows"] == 19
    log = Lake(tmp_path).feed(feed()).log
    assert read_history(log, through=1, commits=1).exports[0].dropped == 19


def test_what_was_dropped_before_lands_with_the_next_export(server: StreamServer, tmp_path: Path) -> None:
    """Rows that an older release dropped for their NULL are added once the feed no longer calls it a key."""
    export(server, tmp_path, feed(null_keys="equal"))

    assert counts(export(server, tmp_path, feed())) == (40, 19, 21, 0)


def test_keys_that_repeat_are_dropped(server: StreamServer, tmp_path: Path) -> None:
    """Of two rows with one key in one reading the later stays, the other is dropped, however often."""
    server.rows += [(MIDNIGHT + 50, ["k0", 1]), (MIDNIGHT + 51, ["x", 1]), (MIDNIGHT + 52, ["x", 2])]

    assert counts(export(server, tmp_path, feed())) == (43, 41, 0, 2)
    assert counts(export(server, tmp_path, feed())) == (43, 0, 41, 2)


def test_whole_rows_have_no_null_keys() -> None:
    """Only a key can say what NULL in it means."""
    with pytest.raises(ValueError, match="has no key that could be NULL"):
        feed(by="row", columns=[], null_keys="equal")
