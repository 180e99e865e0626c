"""The sample: two weeks of a payments company, four streams and four tables, made inside DuckDB."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files

from ksql_lake.devserver.sql.parsing import parse_statements
from ksql_lake.devserver.sql.source_columns import Source, quoted
from ksql_lake.devserver.sql.statements import Create
from ksql_lake.devserver.store.intake import arrivals
from ksql_lake.devserver.store.sources import Catalog

FIRST_DAY_MS = 1_736_121_600_000
"""2025-01-06T00:00:00Z."""
DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
MERCHANTS = 500
_TENTHS = {"TRANSACTION_STREAM": 10, "CARD_AUTHORIZATIONS": 4, "LOGIN_EVENTS": 3}
"""Rows of each stream, in tenths of those of the largest."""


class Sample:
    """The sample's rows in order of arrival; each depends on its number only, and on no clock.

    Args:
        catalog: An empty one; the sources are created at once, `advance` fills them.
        rows: Rows of TRANSACTION_STREAM; the other streams have a fixed share of it.
        days: UTC days that so many rows spread over.
        first_ms: Midnight of the first day (epoch ms, UTC).
        late: Every fortieth event arrives up to 20 hours after the time it carries.
    """

    def __init__(
        self, catalog: Catalog, *, rows: int, days: int, first_ms: int = FIRST_DAY_MS, late: bool = False
    ) -> None:
        self._catalog, self._rows, self._days, self._first = catalog, rows, days, first_ms
        self._reached = first_ms
        variables = {
            "rows": rows,
            "users": max(10, rows // 20),
            "merchants": MERCHANTS,
            "first_ms": first_ms,
            "span_ms": days * DAY_MS,
            "late": int(late),
        }
        for name, value in variables.items():
            self._set(name, value)
        # The macros name the table, so it has to be there.
        catalog.database.execute("CREATE OR REPLACE TEMP TABLE numbers AS SELECT 0::BIGINT AS i LIMIT 0")
        catalog.database.execute(_text("macros"))
        for statement in _creates("sources"):
            catalog.create(statement)

    def advance(self, to_ms: int) -> int:
        """Append the rows that have arrived before a moment (epoch ms) and were not appended; return how many.

        The moment at which one call ends does not change the rows.
        """
        if to_ms <= self._reached:
            return 0
        added = 0
        with self._catalog.lock:
            self._set("from_ms", self._reached)
            self._set("to_ms", to_ms)
            for statement in _creates("sources"):
                source = self._catalog.sources.get(statement.name)
                # Also because derived sources are computed again at each append.
                if source is not None and self._something(source.name, to_ms):
                    added += self._catalog.append(source, _rows(source))
            self._reached = to_ms
        return added

    def derive(self) -> None:
        """Create the sources that are derived from the others; they follow the others from then on."""
        for statement in _creates("derived"):
            self._catalog.create(statement)

    def _something(self, name: str, to_ms: int) -> bool:
        """Number the events of a source before a moment; return whether there may be any."""
        if name not in _TENTHS:
            # Tables: all at the start, or once a day.
            begins = self._reached % _HOUR_MS == 0
            return begins or self._reached // _HOUR_MS != to_ms // _HOUR_MS
        most = max(1, self._rows * _TENTHS[name] // 10)
        span = self._days * DAY_MS
        low, high = ((moment - self._first) * most // span for moment in (self._reached, to_ms))
        if low == high and self._first + low * span // most < self._reached:
            later = self._first + (low + 1) * span // most
            if later >= to_ms:
                return False
        # A table, because DuckDB scans it with all threads and a range() with one.
        self._catalog.database.execute(
            f"CREATE OR REPLACE TEMP TABLE numbers AS SELECT i FROM range({low}, {high + 2}) AS r(i)"
        )
        return True

    def _set(self, name: str, value: int) -> None:
        self._catalog.database.execute(f"SET VARIABLE {name} = {value}::BIGINT")


def load_sample(catalog: Catalog, *, rows: int = 100_000, days: int = 14) -> None:
    """Create and fill the sample's sources.

    Args:
        catalog: An empty catalog.
        rows: Rows of TRANSACTION_STREAM; the other streams have a fixed share of it.
        days: UTC days from 2025-01-06 on that the rows spread over.
    """
    sample = Sample(catalog, rows=rows, days=days)
    sample.advance(FIRST_DAY_MS + days * DAY_MS)
    sample.derive()


def living_sample(
    catalog: Catalog, moment: datetime, *, rows: int = 100_000, days: int = 14, until_ms: int | None = None
) -> Sample:
    """Create and fill the sample that was begun at a moment in the last of its days; it can grow.

    Args:
        catalog: An empty catalog.
        moment: When it was begun; decides its days only.
        rows: Rows of TRANSACTION_STREAM in so many whole days.
        days: UTC days, the moment's included.
        until_ms: How far it has come (epoch ms); None and anything earlier mean the moment.
    """
    reached = epoch_ms(moment)
    first = reached - reached % DAY_MS - (days - 1) * DAY_MS
    sample = Sample(catalog, rows=rows, days=days, first_ms=first, late=True)
    sample.advance(max(reached, until_ms or reached))
    sample.derive()
    return sample


def epoch_ms(moment: datetime) -> int:
    """Return a moment in milliseconds since 1970; without a time zone it is UTC."""
    whole = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(whole.timestamp() * 1000)


def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text("utf-8")


def _creates(name: str) -> list[Create]:
    return [statement for statement in parse_statements(_text(name)) if isinstance(statement, Create)]


def _rows(source: Source) -> str:
    columns = ", ".join(f"{quoted(item.name)} AS {quoted(item.stored_as)}" for item in source.columns)
    return arrivals(
        source, f"SELECT ROWTIME AS made_at, {columns} FROM ({_text(source.name.lower())})", moment="made_at"
    )
