"""The sensor that makes a changed feed file appear: it has the code location loaded anew.

What was loaded and what lies in the feeds folder now are compared by content, so nothing has to be remembered
between ticks, and a reload that failed is tried again. Dagster's web server is asked to reload, the supported
way; where it is, KSQL_LAKE_DAGSTER_URL says.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg

from ksql_lake.export.topology import KEY
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake

SENSOR_SECONDS = 10


def fingerprint(feeds_root: Path, lake: Lake) -> str:
    """Give a digest of every feed file's name and content, and of the topology that is kept in the lake."""
    digest = hashlib.sha256(lake.storage.read(KEY) or b"")
    for name, content in _contents(FeedStore(feeds_root)):
        digest.update(f"{len(name)} {name} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def feed_files_sensor(feeds_root: Path, lake: Lake, loaded: str, url: str) -> dg.SensorDefinition:
    """Give the sensor.

    Args:
        feeds_root: Folder of the feed files.
        lake: Keeps the topology.
        loaded: Fingerprint of what the definitions were made of.
        url: Dagster's web server.
    """

    @dg.sensor(
        name="feed_files",
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reloads the code location when a feed file was added, changed, archived or removed, or "
        "what is known of ksqlDB's sources. Starts no runs.",
    )
    def feed_files(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        if fingerprint(feeds_root, lake) == loaded:
            return dg.SkipReason("What is loaded is as it should be.")
        origin = context.code_location_origin
        if origin is None:
            return dg.SkipReason(
                "Feed files or sources have changed; this process cannot tell which location to reload."
            )
        _reload(origin.location_name, url)
        return dg.SkipReason(f"Feed files or sources have changed: {origin.location_name} was reloaded.")

    return feed_files


def _contents(store: FeedStore) -> Iterator[tuple[str, bytes]]:
    for path in store.paths():
        name = path.relative_to(store.root).as_posix()
        try:
            yield name, path.read_bytes()
        except OSError as error:
            yield name, f"unreadable: {error.strerror}".encode()


def _reload(location: str, url: str) -> None:
    """Have the web server load a location anew.

    Raises:
        dagster.Failure: It cannot be asked, or refuses.
    """
    # Every run's process would pay most of a second for importing this, and only a reload needs it.
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
        told = client.reload_repository_location(location)
    except DagsterGraphQLClientError as error:
        raise _failed(url, str(error)) from error
    except KeyError as error:
        # Dagster's client asks no message of the one refusal it does not expect.
        raise _failed(url, "it refuses; was it started with --read-only?") from error
    # A location that does not load says so itself, in the UI; a refusal nobody else would show.
    if told.status is not ReloadRepositoryLocationStatus.SUCCESS and told.failure_type != "PythonError":
        raise _failed(url, told.message or str(told.failure_type))


def _failed(url: str, reason: str) -> dg.Failure:
    return dg.Failure(
        f"Feed files or sources have changed, but the web server at {url} did not reload them: {reason}\n"
        "Set KSQL_LAKE_DAGSTER_URL to its address, or press Reload in the UI."
    )
