"""`ksql-lake compact`: merge the small files of closed days, and with `--open` those of open days.

A day that fails keeps its files and does not stop the other feeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import click

from ksql_lake.cli.completion import feed_names
from ksql_lake.cli.entry import FAILED, complain
from ksql_lake.cli.plan import left_out_entries, tell_left_out
from ksql_lake.cli.selection import of_kind
from ksql_lake.cli.terminal.output import note, notes_from_log, print_json, print_table, waiting
from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import FeedStore, StreamFeed
from ksql_lake.followers import update_followers
from ksql_lake.lake import Lake
from ksql_lake.lake.compaction import CompactedDay
from ksql_lake.lake.compaction_plan import OPEN_FILES
from ksql_lake.quantities import count_text, size_text
from ksql_lake.settings import load_settings

_HELP = """Merge each closed day's many small files into one; the rows stay as they are.

With --open, it also merges days that still receive rows: eight or more small files become one, so that a day
keeps few files however many exports write it. Run it after each export.

Only files with the same columns are merged. Readers that use ksql-lake see the same rows at any moment. A
reader that globs the folder while a merge replaces a day's files may see rows twice or miss a listed file:
compact while no such reader runs, or let it read again.

\b
Examples:
  ksql-lake compact orders --dry-run
  ksql-lake compact --all --older-than 7
  ksql-lake compact --all --open
"""


@dataclass(frozen=True, slots=True)
class _PlannedDay:
    """A day that has files to merge."""

    day: str
    files: int
    bytes: int


@dataclass(slots=True)
class _Case:
    """One feed: the days to merge and the outcome of each."""

    feed: StreamFeed
    planned: list[_PlannedDay] = field(default_factory=list)
    done: list[CompactedDay] = field(default_factory=list)
    error: KsqlLakeError | None = None


@click.command(help=_HELP)
@click.argument("names", shell_complete=feed_names("stream"), nargs=-1, metavar="[FEED]...")
@click.option("--all", "everything", is_flag=True, help="Every enabled stream feed.")
@click.option(
    "--older-than",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="DAYS",
    help="Full days between the end of a day and today; 0 takes every day before today.",
)
@click.option("--open", "opened", is_flag=True, help="Also merge many small files of younger and open days.")
@click.option(
    "--nan", is_flag=True, help="Also rewrite files of older releases, whose statistics leave out NaN."
)
@click.option("--dry-run", is_flag=True, help="Show the plan, merge nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def compact(  # noqa: PLR0913 - one argument per option
    context: click.Context,
    /,
    *,
    names: tuple[str, ...],
    everything: bool,
    older_than: int,
    opened: bool,
    nan: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Plan and merge."""
    if everything == bool(names):
        raise click.UsageError("name feeds, or say --all")
    settings = load_settings()
    feeds = FeedStore(settings.feeds_root).load()
    broken = tuple(file for file in feeds.quarantined if everything and not file.archived)
    lake, now = Lake(settings.lake_root), datetime.now(UTC)
    wanted = {"older_than": older_than, "now": now, "nan": nan, "open_files": OPEN_FILES if opened else None}
    cases = [_planned(feed, lake, wanted) for feed in of_kind(feeds, StreamFeed, names)]
    try:
        if not dry_run:
            with notes_from_log():
                for case in cases:
                    _merge(case, lake, wanted)
    finally:
        # Also after an interruption: the days that are done stay done.
        _print(cases, opened=opened, dry_run=dry_run, as_json=as_json, left_out=left_out_entries(broken))
    for case in cases:
        if case.error is not None:
            complain(str(case.error))
    tell_left_out(broken)
    context.exit(FAILED if broken or any(case.error for case in cases) else 0)


def _planned(feed: StreamFeed, lake: Lake, wanted: Mapping[str, Any]) -> _Case:
    feed_lake, case = lake.feed(feed), _Case(feed)
    try:
        state = feed_lake.state()
        plan = feed_lake.plan_compaction(**wanted)
        for day in (*plan.days, *plan.open_days):
            files = state.files_of(day)
            case.planned.append(_PlannedDay(day, len(files), sum(file.bytes for file in files)))
    except KsqlLakeError as error:
        case.error = error.at(feed=feed.name)
    return case


def _merge(case: _Case, lake: Lake, wanted: Mapping[str, Any]) -> None:
    if case.error is not None:
        return
    feed_lake = lake.feed(case.feed)
    try:
        if not case.planned:
            # After a killed merge, plain readers see its rows twice until the feed is opened.
            feed_lake.recover()
            return
        task = f"merging {count_text(len(case.planned), 'day')} of {case.feed.name}"
        with feed_lake.exclusive(), waiting(task):
            for day in feed_lake.compact(**wanted):
                case.done.append(day)
    except KsqlLakeError as error:
        case.error = error.at(feed=case.feed.name)
    finally:
        # Also if a later day failed: catalogs and indexes name files that the merged days replaced.
        if case.done:
            update_followers(lake, case.feed)


def _print(
    cases: list[_Case], *, opened: bool, dry_run: bool, as_json: bool, left_out: list[dict[str, object]]
) -> None:
    if as_json:
        days = "planned" if dry_run else "done"
        print_json(
            {
                "dry_run": dry_run,
                "days": [
                    {"feed": case.feed.name, **asdict(day)} for case in cases for day in getattr(case, days)
                ],
                "failed": [
                    {"feed": case.feed.name, "error": str(case.error)}
                    for case in cases
                    if case.error is not None
                ],
                "left_out": left_out,
            }
        )
        return
    if dry_run:
        headers = ["Feed", "Day", "Files", "Size"]
        rows = [
            [case.feed.name, day.day, f"{day.files:,}", size_text(day.bytes)]
            for case in cases
            for day in case.planned
        ]
    else:
        headers = ["Feed", "Day", "Files", "Files\nnow", "Size", "Size\nnow"]
        rows = [[case.feed.name, *_result(day)] for case in cases for day in case.done]
    if rows:
        print_table(headers, rows, right=headers[2:], flexible=("Feed",))
    elif not any(case.error for case in cases):
        several = " and no younger one has many small ones" if opened else ""
        note(f"nothing to merge: no closed day of that age has several files of the same columns{several}")


def _result(day: CompactedDay) -> list[str]:
    files = [f"{count:,}" for count in (day.files_before, day.files_after)]
    return [day.day, *files, size_text(day.bytes_before), size_text(day.bytes_after)]
