"""Sensors over the feeds folder: reload the code location when a file changed, and propose new feeds."""

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg

from ksql_lake.errors import FeedError, KsqlLakeError
from ksql_lake.export.uncovered import HOW, UncoveredSource, uncovered
from ksql_lake.feeds import Feeds, FeedStore, feed_name
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.orchestration.inputs import fingerprint
from ksql_lake.orchestration.run_failures import failure
from ksql_lake.orchestration.scope import Scope

RELOAD_SECONDS = 10

PROPOSAL_SECONDS = 3600
_SHOWN = 10
"""Most proposals that one tick shows in full."""


def feed_files_sensor(scope: Scope, loaded: str) -> dg.SensorDefinition:
    """Return the sensor.

    Args:
        scope: The feeds folder, and the lake that keeps the topology.
        loaded: Fingerprint of the inputs of the loaded definitions.
    """

    @dg.sensor(
        name=scope.named("feed_files"),
        minimum_interval_seconds=RELOAD_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reloads the code location when a feed file was added, changed, archived or removed, or "
        "when ksqlDB's sources in the lake changed. Starts no runs.",
    )
    def feed_files(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if fingerprint(scope.feeds_root, scope.lake) == loaded:
            return dg.SkipReason("The loaded definitions are up to date.")
        origin = context.code_location_origin
        if origin is None:
            return dg.SkipReason(
                "Feed files or sources have changed; this process does not know which location to reload."
            )
        _reload(origin.location_name, scope.settings.dagster_url)
        return dg.SkipReason(f"Feed files or sources have changed: {origin.location_name} was reloaded.")

    return feed_files


def _reload(location: str, url: str) -> None:
    """Let the web server reload a location.

    Raises:
        dagster.Failure: The web server does not answer or refuses.
    """
    # This import takes most of a second in every run's process, and only a reload needs it.
    from dagster_graphql import (  # noqa: PLC0415
        DagsterGraphQLClient,
        DagsterGraphQLClientError,
        ReloadRepositoryLocationStatus,
    )

    parts = urlsplit(url)
    try:
        client = DagsterGraphQLClient(
            parts.hostname or "",
            port_number=parts.port,
            use_https=parts.scheme == "https",
            path_prefix=parts.path.rstrip("/"),
        )
        result = client.reload_repository_location(location)
    except DagsterGraphQLClientError as error:
        raise _failed(url, str(error)) from error
    except KeyError as error:
        # Dagster's client requests no message for the one refusal it does not expect.
        raise _failed(url, "it refuses; was it started with --read-only?") from error
    # The UI shows a location that does not load, but nothing else shows a refusal.
    if result.status is not ReloadRepositoryLocationStatus.SUCCESS and result.failure_type != "PythonError":
        raise _failed(url, result.message or str(result.failure_type))


def _failed(url: str, reason: str) -> dg.Failure:
    return dg.Failure(
        f"Feed files or sources have changed, but the web server at {url} did not reload them: {reason}\n"
        "Set KSQL_LAKE_DAGSTER_URL to its address, or press Reload in the UI."
    )


def new_sources_sensor(scope: Scope) -> dg.SensorDefinition:
    """Return the sensor over the server's sources and the folder of feeds."""

    @dg.sensor(
        name=scope.named("new_sources"),
        minimum_interval_seconds=PROPOSAL_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Asks the server for sources that no feed exports, one DESCRIBE each, and proposes a feed "
        "file for each new one in feeds/proposed; accept one with: ksql-lake feeds accept NAME.",
    )
    def new_sources(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        store = FeedStore(scope.feeds_root)
        try:
            feeds = store.load()
            with KsqlClient(scope.settings.model_copy(update={"attempts": 1})) as client:
                found = uncovered(client, feeds, today=datetime.now(UTC).date())
        except KsqlLakeError as error:
            raise failure(error) from error
        known = set(json.loads(context.cursor)) if context.cursor else set()
        new = [source for source in found if source.name not in known and not _broken(source, feeds)]
        lines = [_propose(source, store, shown=at < _SHOWN) for at, source in enumerate(new)]
        # A source that is gone from the server is dropped here, so it counts as new if it comes back. One whose
        # proposal could not be written stays new.
        written = {source.name for source in new if _proposal(source, store).is_file()}
        kept = known.intersection(source.name for source in found) | written
        return dg.SensorResult(
            skip_reason="\n\n".join(lines) or f"{len(found)} sources without a feed, none of them new.",
            cursor=json.dumps(sorted(kept)),
        )

    return new_sources


def _broken(source: UncoveredSource, feeds: Feeds) -> bool:
    """Return whether a feed file for this source exists that cannot be read."""
    return feed_name(source.name) in {file.name for file in feeds.quarantined}


def _proposal(source: UncoveredSource, store: FeedStore) -> Path:
    return store.root / "proposed" / f"{source.feed}.json"


def _propose(source: UncoveredSource, store: FeedStore, *, shown: bool) -> str:
    days = {"start_date": source.first_day} if source.kind == "stream" else {}
    feed = source.feed_with(**days)
    try:
        path = store.propose(feed)
        text = f"{source.name} is new. Proposed: {path}\nAccept it with: ksql-lake feeds accept {feed.name}"
    except FeedError as error:
        text = f"{source.name} is new. A proposal for feeds/active was not written: {error}"
    if source.reason:
        text += f"\nIt is {HOW[source.extraction]}: {source.reason}."
    return f"{text}\n{store.text(feed)}".strip() if shown else text
