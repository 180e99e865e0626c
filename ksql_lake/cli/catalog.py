"""`ksql-lake catalog`: write a DuckDB database file with the lake's views, for BI tools."""

from __future__ import annotations

from pathlib import Path

import click

from ksql_lake.cli.terminal.output import note
from ksql_lake.quantities import count_text
from ksql_lake.query.sql.followed_catalogs import write_followed

_HELP = """Write a small DuckDB database with a view per feed, for tools that open DuckDB files.

It holds no rows: its views read the lake's folders, so they show later exports too. The lake remembers where
the database is: an export that adds a feed, a column or a feed's first rows rewrites these views. Run the
command again after a move, or to drop the views of removed feeds. The view ksql_lake_catalog lists them.

Paths are relative to the database's folder, so lake and database can be moved together. DuckDB resolves them
against its working directory: start it there, or name the folder with SET file_search_path = '/that/folder'
(a setting of the connection in most tools). For a tool that can do neither, use --absolute.

\b
Examples:
  ksql-lake catalog lake.duckdb && duckdb lake.duckdb "FROM orders LIMIT 5"
  ksql-lake catalog --absolute /srv/bi/lake.duckdb
"""


@click.command(help=_HELP)
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--absolute", is_flag=True, help="Write the lake's full path into the views.")
def catalog(*, path: Path, absolute: bool) -> None:
    """Write a database of views."""
    written, alone = write_followed(path, absolute=absolute)
    for name, error in written.left_out.items():
        note(f"{name}: {error.message}", label="left out")
    if written.empty:
        note(f"without rows until their first export: {', '.join(written.empty)}")
    if alone:
        note(f"the lake cannot keep it up to date: {alone.message}; write it again as feeds change")
    note(f"{path}: {count_text(len(written.views), 'view')}", label="written")
