"""Indexes follow the lake by themselves, and are never in its way."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from deltalake import DeltaTable

from ksql_lake.lake import Lake
from ksql_lake.register import keep_fresh, register, stale
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed


def test_every_index_there_is_follows(tmp_path: Path) -> None:
    """What was registered is brought up to date; what was not is not begun."""
    lake, feed = Lake(tmp_path / "lake"), stream_feed()
    layout = lake.feed(feed).layout
    land_rows(lake, feed, [event(1)])
    assert keep_fresh(lake.storage, layout) == ()
    register(lake.storage, layout, "delta")
    land_rows(lake, feed, [event(2, day=1)])

    assert keep_fresh(lake.storage, layout) == ("delta",)

    assert DeltaTable(lake.storage.uri(layout.index("delta"))).to_pyarrow_table().num_rows == 2
    assert not list(stale(lake.storage, layout, lake.feed(feed).state()))


def test_one_that_fails_is_told_and_harms_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The other index follows all the same; the log says which did not, why, and what to do."""
    lake, feed = Lake(tmp_path / "50%"), stream_feed()
    layout = lake.feed(feed).layout
    land_rows(lake, feed, [event(1)])
    register(lake.storage, layout, "iceberg")
    # No Delta table can be below a folder with a percent sign.
    Path(lake.storage.uri(layout.index_note("delta"))).write_text("{}")
    land_rows(lake, feed, [event(2, day=1)])

    with caplog.at_level(logging.WARNING):
        assert keep_fresh(lake.storage, layout) == ("iceberg",)

    (record,) = caplog.records
    assert record.getMessage() == (
        f"events: the delta index is not up to date: path {lake.root}/metadata/streams/events/delta: no Delta "
        "table can be here: delta-rs reads a % in a path as an escape; `ksql-lake register` builds it"
    )
