"""Record exports from a shell in the Dagster instance; a failure here does not affect the export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from alembic.util import CommandError
from dagster import AssetKey, DagsterError, DagsterInstance, FloatMetadataValue
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from ksql_lake.errors import ConfigError
from ksql_lake.export import ExportResult
from ksql_lake.export.judging import JudgedCheck
from ksql_lake.export.version_keys import keep_versions
from ksql_lake.feeds import TableFeed
from ksql_lake.orchestration.asset_checks import day_evaluations, summary
from ksql_lake.orchestration.conditions import clock_hint
from ksql_lake.orchestration.events import events, news
from ksql_lake.orchestration.freshness_sensor import fresh
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import Settings


def record(
    results: Sequence[ExportResult],
    *,
    settings: Settings,
    checks: Mapping[str, Sequence[JudgedCheck]] | None = None,
) -> None:
    """Record exports as materialisations without a run, with what their checks found, and keep version keys.

    Without DAGSTER_HOME it does nothing. A day that was read before it had ended is only observed, and an
    export that found nothing is not recorded.

    Args:
        results: The exports.
        settings: The settings of Dagster and the lake.
        checks: Feed -> what its checks found.

    Raises:
        ConfigError: The instance in DAGSTER_HOME cannot be used; the exports themselves are not affected.
    """
    if settings.dagster_home is None or not results:
        return
    scope = Scope(settings)
    with _instance("the exports landed", settings.dagster_home) as instance:
        for result in results:
            _record(result, (checks or {}).get(result.feed.name, ()), instance, scope)


def keep_all_versions(feeds: Iterable[TableFeed], *, settings: Settings) -> None:
    """Set Dagster's version keys of tables to those that the lake holds; without DAGSTER_HOME do nothing.

    Raises:
        ConfigError: The instance in DAGSTER_HOME cannot be used; the lake is not affected.
    """
    if settings.dagster_home is None:
        return
    with _instance("the lake is up to date", settings.dagster_home) as instance:
        for feed in feeds:
            _keep(feed, instance, Scope(settings))


def _keep(feed: TableFeed, instance: DagsterInstance, scope: Scope) -> None:
    keep_versions(scope.versions(feed.name), scope.lake.feed(feed), instance)


@contextmanager
def _instance(done: str, home: Path) -> Iterator[DagsterInstance]:
    """Open the instance; if it cannot be used, the error also says what was done before."""
    if not home.is_dir():
        raise _unusable(home, done, "there is no such folder")
    try:
        with _alone(home) as instance:
            yield instance
    except (DagsterError, SQLAlchemyError, CommandError, OSError) as error:
        raise _unusable(home, done, str(error)) from error


def _unusable(home: Path, done: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{done}, but Dagster's records could not be updated: {reason}",
        hint="Correct DAGSTER_HOME, or unset it if Dagster is not in use.",
        dagster_home=home,
    )


def _record(
    result: ExportResult, checks: Sequence[JudgedCheck], instance: DagsterInstance, scope: Scope
) -> None:
    key, lake = scope.key(result.feed), scope.lake.feed(result.feed)
    changed = news(result, key, instance)
    for event in events(result, lake, scope, changed):
        instance.report_runless_asset_event(event)
    if isinstance(result.feed, TableFeed):
        _keep(result.feed, instance, scope)
    for check in [*checks, *fresh(result, lake)]:
        for day in day_evaluations(check, key, changed):
            instance.report_runless_asset_event(day)
        instance.report_runless_asset_event(summary(check, result.covered, key))


def clock_note(settings: Settings) -> str:
    """Return a note if the instance in DAGSTER_HOME starts no exports by the clock; else an empty text."""
    if settings.dagster_home is None or not settings.dagster_home.is_dir():
        return ""
    with _instance("the feed was added", settings.dagster_home) as instance:
        return clock_hint(instance, Scope(settings))


def create_databases(home: Path) -> None:
    """Create the databases of a new Dagster home, in one process before several use it."""
    with _alone(home) as instance:
        instance.get_runs(limit=1)
        instance.all_asset_keys()
        instance.all_instigator_state()


@contextmanager
def _alone(home: Path) -> Iterator[DagsterInstance]:
    """Open the instance while no other ksql-lake process opens it.

    Two processes that start in an empty home both write Dagster's schema version; then no process can open it.
    """
    with FileLock(home / ".ksql-lake.lock"), DagsterInstance.from_config(str(home.resolve())) as instance:
        yield instance


def export_seconds(names: Sequence[str], *, home: Path) -> dict[str, float]:
    """Return the seconds that the last export of each feed took, by the Dagster instance's records."""
    seconds = {}
    with DagsterInstance.from_config(str(home.resolve())) as instance:
        for name in names:
            event = instance.get_latest_materialization_event(AssetKey([name]))
            found = event.asset_materialization if event is not None else None
            fact = found.metadata.get("export_seconds") if found is not None else None
            if isinstance(fact, FloatMetadataValue) and fact.value is not None:
                seconds[name] = fact.value
    return seconds
