"""A DuckDB connection to the lake in one state; each view is made when a query names it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import duckdb

from ksql_lake.lake.files.sql_values import sql_name, sql_text
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.query.known_feeds import Holdings
from ksql_lake.query.sql.macros import Macro
from ksql_lake.query.sql.named_views import Naming
from ksql_lake.query.sql.views import View

_NAMINGS: WeakKeyDictionary[duckdb.DuckDBPyConnection, Naming] = WeakKeyDictionary()
"""The views of each open connection; DuckDB's own class has no place for them."""

OURS = "memory.main"
"""The schema of the views: that of a connection in memory, also while the caller uses another database."""

_UNKNOWN = re.compile(r"(?:Table|Table Function) with name \"?([A-Za-z0-9_]+)")


class LakeConnection(duckdb.DuckDBPyConnection):
    """A DuckDB connection that makes the views of a statement before it runs the statement.

    All methods here that take SQL or a view's name do so. SQL that reaches DuckDB in another way, such as
    `duckdb.sql(..., connection=...)`, finds only the views that were named before.
    """

    # DuckDB creates its connections itself; one gets this class afterwards, so the class has no further fields.
    __slots__ = ()

    def sql(self, query: Any, *given: Any, **options: Any) -> Any:
        """Run statements; return the last one's rows as a relation."""
        return _asked(self, query, super().sql, *given, **options)

    def query(self, query: Any, *given: Any, **options: Any) -> Any:
        """Run statements; return the last one's rows as a relation."""
        return _asked(self, query, super().query, *given, **options)

    def from_query(self, query: Any, *given: Any, **options: Any) -> Any:
        """Return a SELECT as a relation."""
        return _asked(self, query, super().from_query, *given, **options)

    def execute(self, query: Any, *given: Any, **options: Any) -> Any:
        """Run statements; `fetchall` and similar methods return the last one's rows."""
        return _asked(self, query, super().execute, *given, **options)

    def table(self, table_name: str) -> Any:
        """Return a view or table as a relation."""
        return _asked(self, table_name, super().table)

    def view(self, view_name: str) -> Any:
        """Return a view as a relation."""
        return _asked(self, view_name, super().view)

    def rollback(self) -> Any:
        """Roll back; views that were made in the transaction are made again when they are named."""
        _NAMINGS[self].forget()
        return super().rollback()

    def cursor(self) -> Any:
        """Return another connection to the same views."""
        return _ours(super().cursor(), _NAMINGS[self])

    def duplicate(self) -> Any:
        """Return another connection to the same views."""
        return self.cursor()


def connect(root: str | Path | None = None, feeds: str | Path | None = None) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection, in memory, with one view per feed, each made when a statement first names it.

    A stream `NAME` has the view `NAME`. A table has `NAME`, its latest version, and `NAME_versions`, all kept
    versions; `NAME_changes` and `NAME_history` follow its rows, and `NAME__as_of(ts)` is the version of a time.
    A stream's `NAME__between(from_time, to_time)` is a range of event times. `ksql_lake_feeds`,
    `ksql_lake_partitions`, `ksql_lake_versions` and `ksql_lake_commits` describe the lake. Path columns are
    typed; a feed that was never exported has an empty view. The views of a connection do not change; connect
    again to see later exports. Times are shown in UTC.

    Args:
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`. A feed whose file is archived or deleted
            also has its views.

    Raises:
        ConfigError: The lake cannot be read at all.
    """
    holdings = Holdings.open(root, feeds)
    return cast("duckdb.DuckDBPyConnection", _ours(blank_connection(holdings.lake.storage), Naming(holdings)))


def blank_connection(storage: Storage) -> duckdb.DuckDBPyConnection:
    """Return a connection that can read the lake's files and shows times in UTC, without views."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    storage.attach(connection)
    return connection


def prepare(connection: duckdb.DuckDBPyConnection, naming: Naming, sql: str) -> None:
    """Make the views and tables that a text of SQL names and that do not exist yet."""
    with naming.lock:
        if listed := naming.listed(sql):
            # One statement for hundreds of constant views takes a fraction of the time.
            duckdb.DuckDBPyConnection.execute(connection, "; ".join(_statements(view, OURS) for view in listed))
        for name, made in naming.due(sql):
            match made:
                case View() | Macro():
                    create_views(connection, [made], OURS)
                case (table, comment):
                    if not _room_for_table(connection, name):
                        continue
                    connection.from_arrow(table).create(f"{OURS}.{sql_name(name)}")
                    connection.execute(f"COMMENT ON TABLE {OURS}.{sql_name(name)} IS {sql_text(comment)}")


def _room_for_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether a table is still to be made; a view that only listed its name is dropped.

    DuckDB does not replace a view by a table. A table from before a rolled back transaction is there.
    """
    plain = duckdb.DuckDBPyConnection.execute
    held = "SELECT table_type FROM information_schema.tables WHERE table_catalog || '.' || table_schema = ? "
    found = plain(connection, f"{held} AND table_name = ?", [OURS, name]).fetchall()
    if found == [("VIEW",)]:
        plain(connection, f"DROP VIEW {OURS}.{sql_name(name)}")
    return found in ([], [("VIEW",)])


def create_views(connection: duckdb.DuckDBPyConnection, views: Iterable[View | Macro], schema: str) -> None:
    """Make views in a schema, each with its comment; an existing one of the same name is replaced."""
    plain = duckdb.DuckDBPyConnection.execute
    for view in views:
        if isinstance(view, Macro):
            name = f"{schema}.{sql_name(view.name)}"
            plain(connection, f"CREATE OR REPLACE MACRO {name}({view.parameters}) AS TABLE {view.sql}")
            plain(connection, f"COMMENT ON MACRO TABLE {name} IS {sql_text(view.comment)}")
            continue
        plain(connection, _statements(view, schema))


def _statements(view: View, schema: str) -> str:
    name = f"{schema}.{sql_name(view.name)}"
    return f"CREATE OR REPLACE VIEW {name} AS {view.sql}; COMMENT ON VIEW {name} IS {sql_text(view.comment)}"


def _ours(connection: duckdb.DuckDBPyConnection, naming: Naming) -> LakeConnection:
    connection.__class__ = LakeConnection
    _NAMINGS[connection] = naming
    return cast("LakeConnection", connection)


def _asked(connection: LakeConnection, query: Any, run: Any, *given: Any, **options: Any) -> Any:
    naming = _NAMINGS[connection]
    text = query if isinstance(query, str) else str(getattr(query, "query", ""))
    prepare(connection, naming, text)
    if isinstance(query, str):
        query = naming.narrowed(query, connection)
    try:
        return run(query, *given, **options)
    except duckdb.CatalogException as error:
        found = _UNKNOWN.search(str(error))
        problem = naming.problem(found[1]) if found else None
        if problem is not None:
            raise problem from error
        if found and (hint := naming.hint(found[1])):
            # DuckDB's own message proposes its internal tables.
            raise duckdb.CatalogException(f"there is no view {found[1]!r}\n{hint}") from error
        raise
