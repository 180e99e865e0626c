"""`ksql-lake diff`: show the rows that changed between two versions of a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ksql_lake.cli.completion import feed_names
from ksql_lake.cli.terminal.loudness import begin_document
from ksql_lake.cli.terminal.output import note, waiting
from ksql_lake.cli.terminal.whole_file import chosen_form, form_of, whole_file
from ksql_lake.quantities import count_text
from ksql_lake.query.diff_documents import changes, json_text, write_parquet
from ksql_lake.query.sql.sql_answer import on_one_line
from ksql_lake.query.table_diff import Snapshot, TableDiff
from ksql_lake.query.table_diff import diff as compare_versions

_SUFFIXES = {".json": "json", ".parquet": "parquet", ".txt": "console"}
_MARKS = {"insert": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}

_HELP = """Show which rows were inserted, updated and deleted between two versions of a table, by key.

OLD and NEW are versions (v3 or 3), `latest`, or `previous`, the one before it; default: previous and latest.
It also shows deleted keys, which ksqlDB does not report.

NULL and NaN equal themselves, -0.0 and 0.0 differ, MAPs compare in any order. Columns that were added, removed
or changed their type are listed and do not make a row an update. The ending of --output decides the format.

\b
Examples:
  ksql-lake diff merchants
  ksql-lake diff merchants v3 v4 --limit 100
  ksql-lake diff merchants v3 v4 --format json | jq '.changes[] | select(.op == "delete") | .key'
  ksql-lake diff merchants 3 latest --output changes.parquet
"""


@click.command(help=_HELP)
@click.argument("table", shell_complete=feed_names("table"))
@click.argument("old", default="previous")
@click.argument("new", default="latest")
@click.option(
    "--format",
    "form",
    type=click.Choice(["console", "json", "parquet"]),
    help="Default: by the ending of --output, else console.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option(
    "--limit", type=click.IntRange(0), default=20, show_default=True, help="Changes shown on the console."
)
@click.option("--force", is_flag=True, help="Let --output overwrite a file that this command did not write.")
def diff(  # noqa: PLR0913 - one argument per option
    *,
    table: str,
    old: str,
    new: str,
    form: str | None,
    as_json: bool,
    output: Path | None,
    limit: int,
    force: bool,
) -> None:
    """Compare two versions of a table."""
    form = chosen_form(form, as_json=as_json) or form_of(output, _SUFFIXES)
    if form == "parquet" and output is None:
        raise click.UsageError("Parquet is binary; name a file: --output changes.parquet")
    with waiting(f"comparing versions of {table}"):
        difference = compare_versions(table, old, new)
    with difference:
        if output is not None:
            with whole_file(output, "the diff", force=force) as path:
                _write(difference, form, path, limit)
            note(f"{output}: {_counts(difference)} as {form}", label="written")
        elif form == "json":
            begin_document()
            for piece in json_text(difference):
                click.echo(piece, nl=False)
        else:
            _print(difference, limit)


def _write(difference: TableDiff, form: str, path: Path, limit: int) -> None:
    if form == "parquet":
        write_parquet(difference, path)
        return
    with path.open("w", encoding="utf-8") as file:
        if form == "json":
            file.writelines(json_text(difference))
        else:
            file.writelines(f"{_escaped(line).plain}\n" for line in _lines(difference, limit))


def _print(difference: TableDiff, limit: int) -> None:
    """Print the lines; a terminal gets long rows cut, a pipe gets them whole."""
    console = Console(highlight=False, soft_wrap=True)
    for line in map(_escaped, _lines(difference, limit)):
        if sys.stdout.isatty() and line.plain[:2] in _CUT:
            line.truncate(console.width, overflow="ellipsis")
        console.print(line)


def _escaped(line: Text) -> Text:
    """Return a line with terminal control characters escaped and its styles kept."""
    return Text.assemble(*((on_one_line(part.plain), part.style or "") for part in line.divide(_edges(line))))


def _edges(line: Text) -> list[int]:
    return sorted({edge for span in line.spans for edge in (span.start, span.end)})


_CUT = {f"{mark} " for mark, _ in _MARKS.values()}


def _lines(difference: TableDiff, limit: int) -> Iterator[Text]:
    yield Text.assemble((difference.table, "bold"), f" by {', '.join(difference.key)}")
    for word, snapshot in (("from", difference.old), ("to", difference.new)):
        yield Text(f"  {word:4} {_snapshot_text(snapshot)}")
    yield Text()
    counts = (
        ("inserted", difference.inserted, "green"),
        ("updated", difference.updated, "yellow"),
        ("deleted", difference.deleted, "red"),
        ("unchanged", difference.unchanged, ""),
    )
    width = max(len(f"{count:,}") for _, count, _ in counts)
    for word, count, style in counts:
        columns = f"  {_columns(difference)}" if word == "updated" and count else ""
        yield Text.assemble((f"{word:9}", style if count else ""), f"  {count:>{width},}{columns}")
    for change in difference.schema_changes:
        yield Text(f"column {change.text}")
    yield from _changes(difference, limit)


def _changes(difference: TableDiff, limit: int) -> Iterator[Text]:
    total = difference.inserted + difference.updated + difference.deleted
    if total and limit:
        yield Text()
    for change in changes(difference, limit=limit) if limit else ():
        mark, style = _MARKS[change["op"]]
        yield Text.assemble((mark, style), " ", (_values(change["key"]), "bold"), f": {_change_text(change)}")
    if total > limit:
        more = count_text(total - limit, "more change", "more changes")
        yield Text(f"{more}: raise --limit, or get all with --output changes.parquet")


def _snapshot_text(snapshot: Snapshot) -> str:
    return f"{snapshot.version}, {count_text(snapshot.rows, 'row')}, read {snapshot.read_at:%Y-%m-%d %H:%M} UTC"


def _columns(difference: TableDiff) -> str:
    often = sorted(difference.columns.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in often if count)


def _change_text(change: Mapping[str, Any]) -> str:
    key, before, after = change["key"], change["before"], change["after"]
    if change["op"] == "update":
        names = change["changed"]
        return ", ".join(f"{name} {_value(before[name])} -> {_value(after[name])}" for name in names)
    row = after if change["op"] == "insert" else before
    return _values({name: value for name, value in row.items() if name not in key}) or "no other column"


def _values(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in row.items())


def _value(value: object) -> str:
    return "NULL" if value is None else json.dumps(value, ensure_ascii=False)


def _counts(difference: TableDiff) -> str:
    return f"{difference.inserted:,} inserted, {difference.updated:,} updated, {difference.deleted:,} deleted"
