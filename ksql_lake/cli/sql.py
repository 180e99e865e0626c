"""`ksql-lake sql`: query the lake; the answer is a table, CSV, JSON or Parquet."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

from ksql_lake.cli.terminal.loudness import begin_document
from ksql_lake.cli.terminal.output import note, notes_from_log, plain_lines, print_answer
from ksql_lake.cli.terminal.tables import Cells
from ksql_lake.cli.terminal.whole_file import chosen_form, form_of, whole_file
from ksql_lake.query.sql.database_file import write_catalog
from ksql_lake.query.sql.sql_answer import FORMATS, Answer, ask, on_one_line

_SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".txt": "console"}
_LINES_AT_ONCE = 2000

_HELP = """Query the lake in DuckDB's SQL: one view per feed, and NAME_versions, _changes, _history for a table;
NAME__as_of(ts) is its version of a time, NAME__between(from, to) a stream's range of event times.
ksql_lake_feeds, _partitions, _versions and _commits describe the lake.

A stream's view has the columns year, month and day. With WHERE month = 1, or ROWTIME >= '2025-01-15', it reads
only the files of these days. The view of a table is its latest version. Times are in UTC. Of several statements
it shows the rows of the last one.
Without QUERY and -f it reads the query from standard input; on a terminal it starts DuckDB's shell, if that is
installed.

\b
Examples:
  ksql-lake sql "SHOW TABLES"
  ksql-lake sql "SELECT day, count(*) FROM orders WHERE year = 2025 AND month = 1 GROUP BY ALL ORDER BY ALL"
  ksql-lake sql "FROM orders" --output orders.parquet
  ksql-lake sql -f revenue.sql --format csv | head
  ksql-lake sql "EXPLAIN ANALYZE SELECT sum(AMOUNT) FROM orders WHERE month = 1"
"""


@click.command(help=_HELP)
@click.argument("query", required=False)
@click.option(
    "-f",
    "--file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Read the query from a file.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["console", *FORMATS]),
    help="Default: by the ending of --output, else console. csv-json is CSV with nested values as JSON and "
    "BYTES as base64.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="Rows shown on the console; default: 100 on a terminal, else all.",
)
@click.option("--force", is_flag=True, help="Let --output overwrite a file that this command did not write.")
@click.option("--safe", is_flag=True, help="For untrusted SQL: only queries, and only the lake's files.")
def sql(  # noqa: PLR0913 - one argument per option
    *,
    query: str | None,
    file: Path | None,
    form: str | None,
    as_json: bool,
    output: Path | None,
    limit: int | None,
    force: bool,
    safe: bool,
) -> None:
    """Query the lake."""
    form = chosen_form(form, as_json=as_json) or form_of(output, _SUFFIXES)
    if form == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is binary; name a file: --output rows.parquet")
    if form != "console" and limit is not None:
        raise click.UsageError("--limit is for the console; say LIMIT in the query")
    if query is None and file is None and sys.stdin.isatty() and sys.stdout.isatty():
        _shell()
        return
    with notes_from_log():
        answer = ask(_text(query, file), safe=safe)
    for remark in answer.remarks if answer is not None else ():
        note(remark)
    if answer is None:
        note("the last statement returns no rows")
    elif output is not None:
        with whole_file(output, "the answer", force=force) as path:
            path.open("wb").close()  # an unwritable path fails before the query runs
            _write(answer, form, path, limit)
        note(f"{output}: the answer as {form}", label="written")
    elif form == "console" and answer.plan is not None:
        click.echo(answer.plan)
    elif form == "console":
        print_rows(answer, limit)
    else:
        begin_document()
        answer.stream(sys.stdout.buffer, form)


def _shell() -> None:
    """Start DuckDB's shell on a catalog of the lake; exit with the shell's code."""
    program = shutil.which("duckdb")
    if program is None:
        raise click.UsageError(
            'name a query: ksql-lake sql "SHOW TABLES"; or install DuckDB\'s command line (duckdb.org), '
            "and this command starts its shell with the lake's views"
        )
    with tempfile.TemporaryDirectory(prefix="ksql-lake-shell-") as folder:
        path = Path(folder) / "lake.duckdb"
        written = write_catalog(path, absolute=True)
        for name, error in written.left_out.items():
            note(f"{name}: {error.message}", label="left out")
        note("each feed has the views NAME and NAME_versions; SHOW TABLES lists them, .quit ends")
        ended = subprocess.run([program, "-readonly", "-cmd", "SET TimeZone = 'UTC'", str(path)], check=False)  # noqa: S603
    if ended.returncode:
        click.get_current_context().exit(ended.returncode)


def _text(query: str | None, file: Path | None) -> str:
    if query is not None and file is not None:
        raise click.UsageError("use QUERY or -f, not both")
    if query is not None:
        return query
    if file is None and sys.stdin.isatty():
        raise click.UsageError('name a query: ksql-lake sql "SHOW TABLES"')
    try:
        return sys.stdin.read() if file is None or str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{file or 'standard input'} is not text in UTF-8") from None


def _write(answer: Answer, form: str, path: Path, limit: int | None) -> None:
    if form != "console":
        answer.write(path, form)
        return
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{block}\n" for block in _blocks(answer, limit))


def print_rows(answer: Answer, limit: int | None = None) -> None:
    """Print an answer's rows: on a terminal at most `limit`, by default 100; elsewhere by default all."""
    limit = limit or (100 if sys.stdout.isatty() else None)
    if not sys.stdout.isatty():
        for block in _blocks(answer, limit):
            click.echo(block)
        return
    assert limit is not None  # noqa: S101 - a terminal always has one
    rows = list(answer.cells(limit=limit + 1))
    titles = list(map(on_one_line, answer.columns))
    cells = Cells(titles, rows[:limit], answer.numeric, answer.folding, {"NULL": "dim"})
    left_out = print_answer(cells)
    if left_out:
        names = ", ".join(left_out)
        note(f"{len(left_out)} of {len(titles)} columns do not fit in: {names}; name them, or say --format csv")
    if not rows:
        note("no rows")
    if len(rows) > limit:
        note(f"the first {limit} rows; --limit shows more, --format csv all of them")


def _blocks(answer: Answer, limit: int | None) -> Iterator[str]:
    """Align rows under their titles; a long answer is aligned block by block."""
    cells = answer.cells(limit=limit)
    titles = list(map(on_one_line, answer.columns))
    while True:
        rows = list(islice(cells, _LINES_AT_ONCE))
        if rows or titles:
            yield "\n".join(plain_lines([titles, *rows] if titles else rows, right_at=answer.numeric))
        if len(rows) < _LINES_AT_ONCE:
            return
        titles = []
