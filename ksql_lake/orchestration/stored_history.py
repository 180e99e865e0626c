"""Superseded history in Dagster's storage, SQLite or PostgreSQL."""

# Dagster deletes whole runs, and with a run its materialisation events. So this module first finds the newest
# event of each asset, partition and kind; an event that it deletes without its run is older than another of the
# same kind. It rejects a Dagster whose tables it does not know.

import logging
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as db

from ksql_lake.orchestration.internals import EVENT_TABLES, RUN_TAGS

_log = logging.getLogger(__name__)

_AT_ONCE = 500
"""Rows that one transaction deletes; other processes write between two transactions."""

_FREE_BYTES = 16_000_000
"""Free bytes that a SQLite file must have, besides half of its size, before it is compacted."""

_BUSY_SECONDS = 5.0

_HELD = (
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_FAILED_TO_MATERIALIZE,
)
"""The events that record the state of a partition."""

_CHECKS = (
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
)

_COURSE = (
    dg.DagsterEventType.RUN_START,
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
)
"""The events that record the result of a run."""

_LOG_TABLES = {"event_logs", "alembic_version"}
"""The tables of a run's SQLite file that its pages read; Dagster also creates all other tables in it."""


class StoredHistory:
    """The storage of one Dagster instance.

    Raises:
        dagster.Failure: The storage of this Dagster is of an unknown kind.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        """Check that the tables are known; it reads no rows yet."""
        self._instance = instance
        self._store: Any = instance.event_log_storage
        known = all(table is not None for table in (*EVENT_TABLES, *RUN_TAGS))
        if not known or not hasattr(self._store, "index_connection"):
            raise dg.Failure(
                f"The history of this Dagster ({type(self._store).__name__}) is not known to ksql-lake, so "
                "nothing was deleted.",
                allow_retries=False,
            )
        self._events, self._assets, self._tags, self._checks = EVENT_TABLES

    def holders(self) -> set[str]:
        """Return the runs that hold the newest event of a kind of any partition, or are an asset's last run."""
        events = self._events.c
        holding = db.select(events.run_id).where(events.id.in_(self._newest())).distinct()
        last = db.select(self._assets.c.last_run_id).distinct()
        with self._store.index_connection() as connection:
            rows = [*connection.execute(holding), *connection.execute(last)]
        return {row[0] for row in rows if row[0]}

    def thin(self, run_id: str) -> bool:
        """Delete a run's log except its result and its asset events; return whether anything was deleted."""
        if self._sharded:
            return _thin_file(Path(self._store.path_for_shard(run_id)))
        events = self._events.c
        kept = [kind.value for kind in (*_HELD, *_CHECKS, *_COURSE)]
        spoken = db.or_(events.dagster_event_type.is_(None), events.dagster_event_type.not_in(kept))
        with self._store.index_connection() as connection:
            done = connection.execute(self._events.delete().where(events.run_id == run_id, spoken))
        return bool(done.rowcount)

    def drop_file(self, run_id: str) -> bool:
        """Delete the SQLite database of one run; return whether there was one."""
        if not self._sharded or not run_id:
            return False
        file = Path(self._store.path_for_shard(run_id))
        there = file.exists()
        for each in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
            each.unlink(missing_ok=True)
        return there

    def orphans(self, before: datetime) -> Iterator[str]:
        """Yield deleted runs whose database still exists and was not modified since a time."""
        for run_id in self._store.get_all_run_ids() if self._sharded else ():
            file = Path(self._store.path_for_shard(run_id))
            untouched = run_id and file.exists() and file.stat().st_mtime < before.timestamp()
            if untouched and not self._instance.has_run(run_id):
                yield run_id

    def superseded_events(
        self,
        assets: Collection[dg.AssetKey],
        checks: Collection[str],
        before: datetime,
        *,
        alive: Collection[str],
    ) -> int:
        """Delete old asset events that a newer one of the same partition and kind replaces; return how many.

        Args:
            assets: The assets.
            checks: Names of their checks; a run with a result of another check keeps its events of checks.
            before: Events before this are old.
            alive: Runs that have not ended, whose events stay.
        """
        events = self._events.c
        kinds = [kind.value for kind in _HELD]
        old = db.select(events.id).where(
            events.asset_key.in_([key.to_string() for key in assets]),
            events.timestamp < _naive(before),
            events.run_id.not_in(sorted(alive)),
            db.or_(
                db.and_(events.dagster_event_type.in_(kinds), events.id.not_in(self._newest())),
                # A separate table holds the results of checks.
                db.and_(
                    events.dagster_event_type.in_([kind.value for kind in _CHECKS]),
                    events.run_id.not_in(self._runs_of_others(assets, checks)),
                ),
            ),
        )
        gone = self._delete(self._store.index_connection, self._events, old, also=self._tags.c.event_id)
        if self._sharded:
            # A copy that nothing reads: Dagster finds assets in the index.
            copied = db.select(events.id).where(
                events.timestamp < _naive(before), events.asset_key.in_([key.to_string() for key in assets])
            )
            self._delete(lambda: self._store.run_connection(""), self._events, copied)
        return gone

    def _runs_of_others(self, assets: Collection[dg.AssetKey], checks: Collection[str]) -> Any:
        """Select the runs with results of checks of our assets that other definitions made."""
        results = self._checks.c
        return db.select(results.run_id).where(
            results.asset_key.in_([key.to_string() for key in assets]),
            results.check_name.not_in(sorted(checks)),
            # Events without a run are on no run's page.
            results.run_id.is_not(None),
            results.run_id != "",
        )

    def superseded_checks(
        self,
        assets: Collection[dg.AssetKey],
        names: Collection[str],
        before: datetime,
        *,
        alive: Collection[str],
    ) -> int:
        """Delete old check results that a newer one replaces; see `superseded_events`."""
        checks = self._checks.c
        one = (checks.asset_key, checks.check_name, checks.partition)
        newest = db.select(db.func.max(checks.id)).group_by(*one)
        ended = newest.where(checks.execution_status.in_(["SUCCEEDED", "FAILED"]))
        old = db.select(checks.id).where(
            checks.asset_key.in_([key.to_string() for key in assets]),
            checks.check_name.in_(sorted(names)),
            checks.create_timestamp < _naive(before),
            checks.run_id.not_in(sorted(alive)),
            checks.id.not_in(newest),
            checks.id.not_in(ended),
        )
        return self._delete(self._store.index_connection, self._checks, old)

    def tags_of_lost_runs(self) -> int:
        """Delete tags of deleted runs, which SQLite keeps; return how many."""
        tags, runs = RUN_TAGS
        lost = db.select(tags.c.id).where(tags.c.run_id.not_in(db.select(runs.c.run_id)))
        return self._delete(self._runs.connect, tags, lost)

    def shrink(self) -> Iterator[str]:
        """Compact SQLite files that are mostly empty; yield which were compacted and which were in use."""
        stores = (self._store.index_connection, self._runs.connect, getattr(self._ticks, "connect", None))
        for file in sorted({path for connect in stores if connect for path in _files(connect)}):
            with closing(sqlite3.connect(file, timeout=_BUSY_SECONDS)) as connection:
                pages, free, size = (
                    connection.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("page_count", "freelist_count", "page_size")
                )
                if free * 2 < pages or free * size < _FREE_BYTES:
                    continue
                try:
                    connection.execute("VACUUM")
                    yield f"{Path(file).name} is {free * size:,} bytes smaller"
                except sqlite3.OperationalError as error:
                    yield f"{Path(file).name} was not made smaller: {error}"

    @property
    def _sharded(self) -> bool:
        """Whether each run has its own database, beside an index of asset events."""
        return bool(self._store.is_run_sharded)

    @property
    def _runs(self) -> Any:
        return self._instance.run_storage

    @property
    def _ticks(self) -> Any:
        return self._instance.schedule_storage

    def _newest(self) -> Any:
        events = self._events.c
        return (
            db.select(db.func.max(events.id))
            .where(events.asset_key.is_not(None), events.dagster_event_type.in_([kind.value for kind in _HELD]))
            .group_by(events.asset_key, events.partition, events.dagster_event_type)
        )

    def _delete(self, connect: Any, table: Any, which: Any, *, also: Any = None) -> int:
        with connect() as connection:
            ids = [row[0] for row in connection.execute(which)]
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            with connect() as connection:
                connection.execute(table.delete().where(table.c.id.in_(some)))
                if also is not None:
                    connection.execute(also.table.delete().where(also.in_(some)))
        return len(ids)


def _thin_file(file: Path) -> bool:
    """Empty the SQLite file of a run; the file stays, because web servers that showed the run expect it."""
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file, timeout=_BUSY_SECONDS)) as connection:
            return _without_log(connection)
    except sqlite3.OperationalError as error:
        # The run's page is being read; the next time is early enough.
        _log.warning("%s was left as it is: %s", file.name, error)
        return False


def _without_log(connection: sqlite3.Connection) -> bool:
    named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    spare = {row[0] for row in connection.execute(named)} - _LOG_TABLES
    if not spare:
        return False
    kept = [kind.value for kind in _COURSE]
    marks = ", ".join("?" * len(kept))
    connection.execute(
        f"DELETE FROM event_logs WHERE coalesce(dagster_event_type, '') NOT IN ({marks})",
        kept,
    )
    for table in sorted(spare):
        connection.execute(f'DROP TABLE "{table}"')
    connection.commit()
    connection.execute("VACUUM")
    return True


def _files(connect: Any) -> list[str]:
    """Return the files of a connection; empty if it is not SQLite."""
    with connect() as connection:
        if connection.dialect.name != "sqlite":
            return []
        return [row[2] for row in connection.execute(db.text("PRAGMA database_list")) if row[2]]


def _naive(moment: datetime) -> datetime:
    """Return a time as the tables store it: in UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
