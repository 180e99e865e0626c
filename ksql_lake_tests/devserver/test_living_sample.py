"""The sample at a moment of choice: the same rows in whatever steps they arrive, late ones among them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from ksql_lake.devserver.options import Options
from ksql_lake.devserver.service.growth import load
from ksql_lake.devserver.store.sample import DAY_MS, epoch_ms, living_sample, load_sample
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.errors import ConfigError

MOMENT = datetime(2026, 3, 5, 13, 7, tzinfo=UTC)
LATER = epoch_ms(MOMENT + timedelta(hours=30))
STREAMS = ("TRANSACTION_STREAM", "LOGIN_EVENTS", "CARD_AUTHORIZATIONS", "TRANSACTION_FLATTENED")


def content(catalog: Catalog, name: str) -> list[tuple[object, ...]]:
    """All rows of a source with their partitions and offsets; of a table those that are alive."""
    source = catalog.sources[name]
    alive = "" if source.kind == "STREAM" else "WHERE NOT __DEAD"
    found = catalog.database.execute(f"SELECT * EXCLUDE (__SEQ) FROM {source.storage} {alive}").fetchall()
    return sorted(found, key=repr)


def test_rows_are_the_same_in_whatever_steps_they_arrive() -> None:
    """A server that runs, and one that is started again later, hold the same rows in the same places."""
    stepwise, anew = Catalog(), Catalog()
    sample = living_sample(stepwise, MOMENT, rows=3000)
    for minutes in (1, 2, 3, 60, 61, 600, 1300):
        sample.advance(epoch_ms(MOMENT + timedelta(minutes=minutes)))
    sample.advance(LATER)
    living_sample(anew, MOMENT, rows=3000, until_ms=LATER)

    for name in STREAMS:
        assert repr(content(stepwise, name)) == repr(content(anew, name)), name
    assert content(stepwise, "FX_RATES") == content(anew, "FX_RATES")
    assert content(stepwise, "MERCHANTS") == content(anew, "MERCHANTS")
    assert stepwise.sources["LOGIN_EVENTS"].rows > 14 * 900 // 14


def test_the_moment_moves_the_days_and_nothing_else_is_asked() -> None:
    """Rows fill the days up to the moment, of which the last is the moment's; none carries a later time."""
    catalog = Catalog()
    living_sample(catalog, MOMENT, rows=3000)

    for name in STREAMS:
        times = [row[0] for row in content(catalog, name)]
        days = {datetime.fromtimestamp(int(str(at)) / 1000, UTC).date() for at in times}
        assert days == {date(2026, 2, 20) + timedelta(days=number) for number in range(14)}, name
        assert max(int(str(at)) for at in times) < epoch_ms(MOMENT)


def test_some_rows_arrive_late_and_none_later_than_a_day() -> None:
    """Among rows in order of arrival some carry the time of a day before, and none that of two days before."""
    catalog = Catalog()
    sample = living_sample(catalog, MOMENT, rows=30_000)
    sample.advance(LATER)
    times = catalog.database.execute(
        f"SELECT ROWTIME FROM {catalog.sources['TRANSACTION_STREAM'].storage} ORDER BY __SEQ"
    ).fetchall()

    newest, delays = 0, []
    for (at,) in times:
        newest = max(newest, at)
        delays.append(newest - at)
    late = [delay for delay in delays if delay > 0]
    assert len(times) / 60 < len(late) < len(times) / 20
    assert DAY_MS * 0.7 < max(late) < DAY_MS
    assert len({row[1] for row in content(catalog, "TRANSACTION_STREAM")}) > 1


def test_the_sample_of_always_has_no_late_rows() -> None:
    """Without a moment the sample is what it was: two weeks of January 2025, in order."""
    catalog = Catalog()
    load_sample(catalog, rows=300)
    times = catalog.database.execute(
        f"SELECT ROWTIME FROM {catalog.sources['TRANSACTION_STREAM'].storage} ORDER BY __SEQ"
    ).fetchall()

    assert times == sorted(times)
    assert times[0] == (1_736_121_600_000,)


def test_a_sample_that_goes_on_needs_its_moment() -> None:
    """--sample-live alone is refused, with what to write instead."""
    with pytest.raises(ConfigError, match="--sample-live needs --sample-at") as caught:
        load(Options(sample_live=True), Catalog())

    assert "--sample-at now --sample-live" in caught.value.hint
