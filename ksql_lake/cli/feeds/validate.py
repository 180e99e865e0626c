"""`ksql-lake feeds validate`: list every problem of the feed files, with `--server` also against the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ksql_lake.cli.feeds.source_check import check_feed, how_read, writer_of
from ksql_lake.cli.terminal.output import note, print_json, waiting
from ksql_lake.errors import KsqlLakeError, LakeError, MeaningChangeError, ServerUnavailableError
from ksql_lake.export.continuing.preconditions import check_conditions
from ksql_lake.feeds import Feed, FeedStore, StreamFeed
from ksql_lake.feeds.validation import AND_MORE
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.quantities import count_text
from ksql_lake.settings import load_settings

_HELP = """Check feed files and print every problem. Without PATHS it checks all of them.

A key that was changed although the first export fixed it is a problem too.

With --server it also asks the server about all active feeds: whether the source exists, has the columns, and
can be read the way the feed says. A source that no pull query can read needs "extraction": "push"; --write sets
it. For "extraction": "continue" a short query tests each condition, and the result explains each.

\b
Examples:
  ksql-lake feeds validate
  ksql-lake feeds validate --server
  ksql-lake feeds validate --server --write
"""


@dataclass(frozen=True, slots=True)
class Found:
    """The problems of one file."""

    path: Path
    name: str
    problems: tuple[str, ...]


@click.command(help=_HELP)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--server", is_flag=True, help="Also check the active feeds against the server.")
@click.option(
    "--write", is_flag=True, help='Set "extraction": "push" if only a push query can read the source.'
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def validate(
    context: click.Context, /, *, paths: tuple[Path, ...], server: bool, write: bool, as_json: bool
) -> None:
    """Check feed files."""
    if server and paths:
        raise click.UsageError("--server checks all active feeds; leave out the paths")
    if write and not server:
        raise click.UsageError("--write needs --server: only the server shows which query can read a source")
    settings = load_settings()
    store = FeedStore(settings.feeds_root)
    broken = [Found(file.path, file.name, tuple(file.error.problems)) for file in store.validate(paths)]
    broken += _other_than_held(store, paths, Lake(settings.lake_root))
    if server:
        with KsqlClient(settings) as client, waiting(f"asking {client.url}"):
            broken += _unfit(store, client, write=write)
    if as_json:
        print_json([{"path": file.path, "name": file.name, "problems": file.problems} for file in broken])
    else:
        for file in broken:
            for problem in file.problems:
                click.echo(f"{file.path}: {problem}")
        click.echo(_counted(broken), err=True)
    context.exit(2 if broken else 0)


def _counted(broken: Sequence[Found]) -> str:
    if not broken:
        return "no problems found"
    listed = [problem for file in broken for problem in file.problems]
    named = sum(problem != AND_MORE for problem in listed)
    more = "more than " if named < len(listed) else ""
    return f"{more}{count_text(named, 'problem')} in {count_text(len(broken), 'file')}"


def _other_than_held(store: FeedStore, paths: tuple[Path, ...], lake: Lake) -> Iterator[Found]:
    """Check every active feed against its rows in the lake."""
    wanted = {path.resolve() for path in paths}
    for file in store.load().files:
        if file.archived or (wanted and file.path.resolve() not in wanted):
            continue
        try:
            lake.feed(file.feed).check()
        except MeaningChangeError as error:
            yield Found(file.path, file.feed.name, (f"{error.message}. {error.hint}",))
        except LakeError as error:
            note(f"{file.feed.name}: not checked against the lake: {error.message}", label="warning")


def _unfit(store: FeedStore, client: KsqlClient, *, write: bool) -> Iterator[Found]:
    """Check every active feed against the server."""
    for file in store.load().files:
        feed = file.feed
        if file.archived:
            continue
        try:
            problems = _problems(feed, client, store if write else None)
        except ServerUnavailableError:
            raise
        except KsqlLakeError as error:
            problems = (f"{error.message}. {' '.join(error.hint.split())}".strip(),)
        if problems:
            yield Found(file.path, feed.name, problems)


def _problems(feed: Feed, client: KsqlClient, store: FeedStore | None) -> tuple[str, ...]:
    """Return the problems of a feed; with a store, correct its file instead where that is possible."""
    if isinstance(feed, StreamFeed) and feed.extraction == "continue":
        check_feed(feed, client)
        return _unmet(feed, client)
    problem = _problem(feed, client, store)
    return (problem,) if problem else ()


def _unmet(feed: StreamFeed, client: KsqlClient) -> tuple[str, ...]:
    """Test whether a feed can be continued; print the conditions that hold and return those that do not."""
    found = check_conditions(feed, client)
    for condition in found:
        if condition.met:
            note(f"{feed.name}: {condition.name}: {condition.text}")
    unmet = [f"continue, {condition.name}: {condition.text}" for condition in found if not condition.met]
    if unmet:
        note(f"{feed.name} is read by pull query until this is corrected; see docs/large-topics.md")
    return tuple(unmet)


def _problem(feed: Feed, client: KsqlClient, store: FeedStore | None) -> str:
    """Return a feed's problem, or an empty text; with a store, correct `extraction` in its file instead."""
    reach = how_read(feed.source, client)
    if feed.known_by == "row":
        _warn_of_twins(feed, client)
    if reach.extraction == feed.extraction:
        check_feed(feed, client)
        return ""
    if feed.extraction == "push":
        note(f"{feed.name} is read by push query, but a pull query could read {feed.source} and prove its end")
        check_feed(feed, client)
        return ""
    pushed = feed.model_copy(update={"extraction": "push"})
    check_feed(pushed, client)
    if store is None:
        return f'extraction: must be "push": {reach.reason}'
    path = store.change(feed.name, {"extraction": "push"})
    note(f"{path}: extraction is push now: {reach.reason}", label="written")
    return ""


def _warn_of_twins(feed: Feed, client: KsqlClient) -> None:
    """Print a note if a query writes the source: its topic may hold rows twice."""
    if writer := writer_of(feed.source, client):
        note(
            f"{feed.name}: {feed.source} is written by the query {writer}, which writes rows twice when its "
            "server is killed. Only the source's offsets distinguish these from two events: select them there "
            '(ROWPARTITION AS RP, ROWOFFSET AS RO), with "identity": {"by": "offset", "columns": ["RP", "RO"]}'
        )
