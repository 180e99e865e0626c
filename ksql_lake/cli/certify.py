"""`ksql-lake certify`: compare a day or a version with its source, read again. It changes no rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Literal

import click

from ksql_lake.cli.completion import feed_names
from ksql_lake.cli.entry import DONE, FAILED
from ksql_lake.cli.selection import Day
from ksql_lake.cli.terminal.output import note, notes_from_log, print_json, print_line, print_table, waiting
from ksql_lake.errors import ConfigError
from ksql_lake.export.certification import Certification
from ksql_lake.export.certification import certify as compare
from ksql_lake.export.judging import note_certification
from ksql_lake.export.table_certification import certify_table
from ksql_lake.feeds import Feed, FeedStore, StreamFeed, TableFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.quantities import count_text
from ksql_lake.settings import Settings, load_settings

_HELP = """Read a closed day of a stream, or a table's changes, from the server and compare them with the lake.

A day is compared hour by hour, a version key by key. Keys that were changed or deleted after the version was
read are counted separately.

The output also shows the day's certificate: what the last export after the day's end read. Rows that Kafka has
deleted since are in the lake only, and are reported so. For feeds with identity `offset` the offsets of each
Kafka partition follow; gaps among them are normal (filters, transactions, compacted topics).

\b
Examples:
  ksql-lake certify orders 2025-01-31
  ksql-lake certify orders 2025-01-31 --json | jq .equal
  ksql-lake certify orders 2025-01-31 --by push
  ksql-lake certify users v4

With --by push a push query reads the day, whatever the feed's `extraction` is. Each row then has its Kafka
offset, and if another query reads the same topic, Kafka's offsets prove the end. It receives the whole topic.

Equal means: totals, checksum and every hour are the same, and of a version every key that is compared. Columns
and fields of STRUCTs are compared if source and lake both hold them in types that fit, also where a retyped
column is called PRICE_V2 in the lake. All others, such as a column that is newer than the rows of the day, are
not compared; the output names them, and `unseen` in the JSON does.

The result for a day is recorded in the lake as the check `certificate`, as the job `certify` records it, and
the report shows it. Rows do not change. The comparison of a version is only printed: neither the lake nor the
report keeps it.

Exit codes: 0 equal, 1 different, not as certified (or the day could not be read), 2 usage or configuration.
"""


@click.command(help=_HELP)
@click.argument("name", shell_complete=feed_names(), metavar="FEED")
@click.argument("what", metavar="DATE|VERSION")
@click.option("--by", type=click.Choice(["pull", "push"]), help="How to read a day; default: as the feed does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def certify(
    context: click.Context, /, *, name: str, what: str, by: Literal["pull", "push"] | None, as_json: bool
) -> None:
    """Compare a day or a version with its source."""
    settings = load_settings()
    feed = FeedStore(settings.feeds_root).load().get(name)
    if isinstance(feed, TableFeed):
        if by is not None:
            raise ConfigError(
                "a table is certified by its changes, which only a push query reads",
                hint="Leave --by out.",
                feed=feed.name,
            )
        context.exit(_certify_version(feed, what, settings, as_json=as_json))
    day = Day().convert(what, None, context)
    _refuse_before_start(feed, day)
    with KsqlClient(settings) as client, notes_from_log(), waiting(f"reading {day} from {client.url}"):
        lake = Lake(settings.lake_root)
        found = compare(feed, day, client, lake, by=by)
        note_certification(found, lake.feed(feed))
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found, by)
    context.exit(DONE if found.sound else FAILED)


def _certify_version(feed: TableFeed, version: str, settings: Settings, *, as_json: bool) -> int:
    with (
        KsqlClient(settings) as client,
        notes_from_log(),
        waiting(f"reading the changes of {feed.source} from {client.url}"),
    ):
        found = certify_table(feed, version, client, Lake(settings.lake_root))
    if as_json:
        print_json(found.as_dict())
    else:
        verdict = ("equal", "green") if found.equal else ("different", "bold red")
        print_line((found.feed, "bold"), f" {found.version}: ", verdict)
        print_line(f"  {found.text}")
        _print_unseen(found.unseen)
        print_line(f"  {found.evidence.level}: {found.evidence.text}")
        note("this comparison of a version is not recorded; the report does not show it")
    return DONE if found.equal else FAILED


def _refuse_before_start(feed: Feed, day: date) -> None:
    if isinstance(feed, StreamFeed) and day < feed.start_date:
        raise ConfigError(
            f"{day} is before start_date {feed.start_date}, so it was never exported",
            hint="Correct the date, or set an earlier start_date in the feed file and export the day.",
            feed=feed.name,
        )


def _print(found: Certification, by: str | None) -> None:
    verdict = ("equal", "green") if found.equal else ("different", "bold red")
    hours = "" if found.equal else f" in {count_text(len(found.differences), 'hour')}"
    read = f" (source read again: {found.evidence.level})"
    print_line((found.feed, "bold"), f" {found.day}: ", verdict, hours, read)
    if by is not None:
        print_line(f"  {found.evidence.level}: {found.evidence.text}")
    for hour in found.differences:
        print_line(f"  {hour.text}")
    _print_unseen(found.unseen)
    rows = [
        ["source now", f"{found.source_rows:,}", found.source_checksum],
        ["lake", f"{found.lake_rows:,}", found.lake_checksum],
    ]
    if found.certificate is not None:
        rows.append(["lake as exported", f"{found.certificate.rows:,}", found.certificate.checksum])
    print_line()
    print_table(["Side", "Rows", "Checksum"], rows, right=("Rows",))
    if found.offsets:
        print_line()
        print_table(_OFFSETS, _offset_rows(found), right=_OFFSETS)
    _print_notes(found)


_UNSEEN = "one side lacks them or has another type, or an earlier release read them less exactly"


def _print_unseen(names: Sequence[str]) -> None:
    if names:
        print_line(f"  not compared, because {_UNSEEN}: {', '.join(names)}")


_OFFSETS = ["Kafka\npartition", "First", "Last", "Rows", "Gaps", "Duplicates"]


def _offset_rows(found: Certification) -> list[list[str]]:
    return [
        [str(number) for number in (part.kafka_partition, part.first, part.last)]
        + [f"{count:,}" for count in (part.rows, part.gaps, part.duplicates)]
        for part in found.offsets
    ]


def _print_notes(found: Certification) -> None:
    if found.certificate is None:
        note("no export has read this day after its end, so it has no certificate")
    elif found.questioned:
        again = f"ksql-lake export --stream {found.feed} --date {found.day}"
        note(f"the certificate cannot be trusted: {found.questioned}; read it again: {again}", label="warning")
    elif not found.as_certified:
        note("the lake does not hold what the export certified; see: ksql-lake doctor", label="warning")
    elif found.certificate.clock == "client":
        note("only this machine's clock certifies that the day had ended: the server's could not be asked")
    if any(hour.source_rows > hour.lake_rows for hour in found.differences):
        again = f"ksql-lake export --stream {found.feed} --date {found.day}"
        note(f"an export of the day adds the missing rows: {again}", label="next")
