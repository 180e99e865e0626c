"""External assets for archived, disabled and broken feeds, so that downstream assets still load."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from zoneinfo import available_timezones

import dagster as dg

from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import Feed, FeedFile, Feeds, QuarantinedFile, StreamFeed
from ksql_lake.feeds.model import NAME_PATTERN
from ksql_lake.lake import FeedState, Lake
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.layout import FeedLayout, Kind
from ksql_lake.markdown import block
from ksql_lake.orchestration.partitions import dates_in, days_since
from ksql_lake.orchestration.scope import Scope
from ksql_lake.query import description


def placeholders(
    feeds: Feeds, scope: Scope, starts: Mapping[str, date], *, lake_answers: bool = True
) -> list[dg.AssetSpec]:
    """Return the external assets of all feeds that export nothing.

    Args:
        feeds: Every feed file.
        scope: The scope; its lake shows the partitions of a broken feed.
        starts: Time zone -> first day that is a partition of its streams.
        lake_answers: Whether the lake can be read.
    """
    held = scope.lake if lake_answers else None
    specs = [_idle(file, scope, starts) for file in feeds.files if file.archived or not file.feed.enabled]
    taken, keys = {file.feed.name for file in feeds.files}, {scope.key(file.feed) for file in feeds.files}
    for file in feeds.quarantined:
        key = scope.key_of_broken(file)
        if re.match(NAME_PATTERN, file.name) and file.name not in taken and key not in keys:
            taken.add(file.name)
            keys.add(key)
            specs.append(_broken(file, key, scope, _gleaned_partitions(file, scope, starts, held)))
        elif not file.archived:
            # No asset of this name can be meant, or its key is another's; it is shown all the same.
            specs.append(_broken(file, scope.own_key("quarantine", file.name), scope, None))
    return specs


def _idle(file: FeedFile, scope: Scope, starts: Mapping[str, date]) -> dg.AssetSpec:
    feed = file.feed
    state, command = ("archived", "restore") if file.archived else ("disabled", "enable")
    text = (
        f"**This feed is {state}: nothing is exported.** Its rows in the lake stay readable. "
        f"To export it again: `ksql-lake feeds {command} {feed.name}`"
    )
    spec = _external(
        scope,
        scope.key(feed),
        _partitions(feed, scope, starts),
        description=f"{text}\n\n{description(scope.lake.feed(feed))}",
        group_name=scope.named(state),
        kinds={"parquet"},
        owners=list(feed.owners),
        tags=feed.tags,
        metadata={"source": feed.source, "feed_file": dg.MetadataValue.path(str(file.path))},
    )
    return scope.translated(spec, feed).replace_attributes(group_name=scope.named(state))


def _broken(
    file: QuarantinedFile,
    key: dg.AssetKey,
    scope: Scope,
    partitions: dg.PartitionsDefinition | None,
) -> dg.AssetSpec:
    where = " Its file is archived." if file.archived else ""
    return _external(
        scope,
        key,
        partitions,
        description=f"**This feed file cannot be used, so nothing is exported.**{where} Downstream assets load "
        f"and fail when they run.\n\n{block(str(file.error), 'text')}",
        group_name=scope.named("quarantine"),
        kinds={"json"},
        metadata={"file": dg.MetadataValue.path(str(file.path)), "error": str(file.error)},
    )


def _external(
    scope: Scope, key: dg.AssetKey, partitions: dg.PartitionsDefinition | None, **facts: object
) -> dg.AssetSpec:
    spec = dg.AssetSpec(key, partitions_def=partitions, **facts)  # type: ignore[arg-type]
    return spec.with_io_manager_key(scope.io_manager_key)


def _partitions(feed: Feed, scope: Scope, starts: Mapping[str, date]) -> dg.PartitionsDefinition:
    """Return the partitions it would have, from the first day of any feed of its zone on."""
    if isinstance(feed, StreamFeed):
        return days_since(starts[feed.timezone], feed.timezone)
    return dg.DynamicPartitionsDefinition(name=scope.versions(feed.name))


def _gleaned_partitions(
    file: QuarantinedFile, scope: Scope, starts: Mapping[str, date], lake: Lake | None
) -> dg.PartitionsDefinition | None:
    states = dict(_states(file.name, lake)) if lake is not None else {}
    kind = file.gleaned.get("kind") or next(iter(states), None)
    if kind == "table":
        return dg.DynamicPartitionsDefinition(name=scope.versions(file.name))
    if kind != "stream":
        return None
    state = states.get("stream")
    pinned = state.meaning.timezone if state is not None and state.meaning is not None else ""
    zone = file.gleaned.get("timezone") or pinned or "UTC"
    zone = zone if zone in available_timezones() else pinned or "UTC"
    read = [date.fromisoformat(day) for day in (state.looked if state is not None else ())]
    firsts = [*dates_in(file.gleaned.get("start_date", "")), *read, *([starts[zone]] if zone in starts else [])]
    return days_since(min(firsts, default=datetime.now(UTC).date()), zone)


def _states(name: str, lake: Lake) -> Iterator[tuple[str, FeedState]]:
    """Yield kind and state of what the lake holds under a name."""
    kinds: tuple[Kind, ...] = ("stream", "table")
    for kind in kinds:
        layout = FeedLayout(kind, name)
        try:
            if lake.storage.names(layout.commits):
                yield kind, CommitLog(lake.storage, layout).load()
        except KsqlLakeError:
            # Readers of rows report an unreadable lake; here only the kind of the feed is needed.
            continue
