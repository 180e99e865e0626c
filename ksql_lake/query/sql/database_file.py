"""A DuckDB database file with the lake's views, for tools without ksql-lake."""

# Its views name folders relative to the database's folder, so that new files show and both can be moved
# together.

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from ksql_lake.errors import ConfigError, KsqlLakeError, SchemaChangeError
from ksql_lake.feeds import Feed
from ksql_lake.lake import FeedState, Lake
from ksql_lake.lake.files.sql_values import literally, sql_name, sql_text, sql_type
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.rows.scan import PATH_COLUMNS, committed_rows, free_name, path_terms, unified_columns
from ksql_lake.query.known_feeds import Holdings
from ksql_lake.query.sql.connection import create_views
from ksql_lake.query.sql.macros import Macro, between_macros
from ksql_lake.query.sql.views import View
from ksql_lake.schema import Schema, alike_fields

CONTENTS = "ksql_lake_catalog"
"""The view that marks the database as a catalog of ksql-lake, and lists its views."""

_ABOUT = "the views of the lake at "
"""The comment of `CONTENTS`, before the lake as the views name it."""

_STORAGE = "v1.0.0"
"""The oldest format that this DuckDB writes, because tools contain older releases."""

_DEPTH = {"stream": "*/*/*/*.parquet", "table": "*/*.parquet"}


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """The result of writing a catalog.

    Attributes:
        views: Names of the views.
        empty: Feeds without rows; their views are empty until their first export rewrites them.
        left_out: Why a feed has no view.
    """

    views: tuple[str, ...]
    empty: tuple[str, ...]
    left_out: dict[str, KsqlLakeError]


def write_catalog(
    path: Path, *, root: str | Path | None = None, feeds: str | Path | None = None, absolute: bool = False
) -> DatabaseFile:
    """Write the database file, whole or not at all; an older catalog is replaced.

    Args:
        path: The file.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.
        absolute: Write the lake's full path into the views, for tools without a setting for the folder.

    Raises:
        ConfigError: `path` is another program's file, or cannot be written.
    """
    holdings = Holdings.open(root, feeds)
    _check_ours(path)
    folder = _folder(holdings.lake, path, absolute=absolute)
    views: list[View | Macro] = []
    listed: list[_Entry] = []
    empty: list[str] = []
    left_out: dict[str, KsqlLakeError] = {}
    taken = {feed.name for feed in holdings.feeds}
    for feed in holdings.feeds:
        try:
            state = holdings.lake.feed(feed).published()
            made = _views(feed, state, folder, marked=_marked(holdings.lake, path))
        except KsqlLakeError as error:
            left_out[feed.name] = error
            continue
        if not state.partitions:
            empty.append(feed.name)
        made = [view for view in made if view.name == feed.name or view.name not in taken]
        views += made
        listed += _entries(feed, made)
    views.append(_contents(listed, folder))
    with _replacing(path) as temporary:
        _write(temporary, views, search=path.absolute().parent)
    return DatabaseFile(tuple(view.name for view in views if isinstance(view, View)), tuple(empty), left_out)


def refresh_catalog(path: Path, lake: Lake, feed: Feed) -> bool:
    """Rewrite a feed's views in a catalog if they are out of date; the others stay as they are.

    Returns False if the views are up to date, or if the file is no longer a catalog of this lake.

    Raises:
        KsqlLakeError: The feed cannot have views, or the catalog cannot be written.
    """
    known = _held(path)
    if known is None or not _of(lake, known.lake, path):
        return False
    taken = {entry[1] for entry in known.entries}
    made = [
        view
        for view in _views(feed, lake.feed(feed).published(), known.lake, marked=_marked(lake, path))
        if view.name == feed.name or view.name not in taken
    ]
    entries, before = _entries(feed, made), [entry for entry in known.entries if entry[1] == feed.name]
    if sorted(entries) == sorted(before):
        return False
    names = {view.name for view in made}
    others = [entry for entry in known.entries if entry not in before and entry[0] not in names]
    contents = _contents(sorted([*others, *entries]), known.lake)
    with _replacing(path) as temporary:
        shutil.copyfile(path, temporary)
        _write(temporary, [*made, contents], search=path.absolute().parent)
    return True


_Entry = tuple[str, str, str, str, str, str]
"""A view in `CONTENTS`: its name, its feed with kind and source, its comment, and the digest of its SQL."""


@dataclass(frozen=True, slots=True)
class _Held:
    """The contents of a catalog: the lake as its views name it, and each view."""

    lake: str
    entries: list[_Entry]


def _held(path: Path) -> _Held | None:
    """Read the contents of a catalog; None if it is missing, no catalog, or of an older release."""
    if not path.is_file():
        return None
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            found = connection.execute("SELECT comment FROM duckdb_views() WHERE view_name = ?", [CONTENTS])
            comment = str((found.fetchone() or ("",))[0])
            if not comment.startswith(_ABOUT):
                return None
            entries = connection.execute(f"FROM {CONTENTS}").fetchall()
    except duckdb.Error:
        return None
    return _Held(comment.removeprefix(_ABOUT), entries)


def _of(lake: Lake, named: str, path: Path) -> bool:
    """Return whether a catalog's views name this lake, and not one that this lake is a copy of."""
    if "://" in lake.root or "://" in named:
        return named == lake.root
    return (path.absolute().parent / named).resolve() == Path(lake.root).resolve()


def _marked(lake: Lake, path: Path) -> bool:
    return "=" in f"{lake.root} {path.absolute()}"


def _entries(feed: Feed, made: Sequence[View | Macro]) -> list[_Entry]:
    """Return the entries of a feed's views in `CONTENTS`; their digests cover its macros too."""
    views = [view for view in made if isinstance(view, View)]
    macros = "".join(f"{macro.parameters}{macro.sql}" for macro in made if isinstance(macro, Macro))
    return [
        (
            *(view.name, feed.name, feed.kind, feed.source, view.comment),
            hashlib.sha256(f"{view.sql}{macros}".encode()).hexdigest()[:16],
        )
        for view in views
    ]


def _folder(lake: Lake, path: Path, *, absolute: bool) -> str:
    if absolute or "://" in lake.root:
        return lake.root
    return Path(os.path.relpath(Path(lake.root).resolve(), path.absolute().parent.resolve())).as_posix()


def _views(feed: Feed, state: FeedState, folder: str, *, marked: bool) -> list[View | Macro]:
    about = feed.description or f"{feed.kind} {feed.source}"
    for column in unified_columns(state)[0]:
        if (alike := alike_fields(column.type, column.name)) is not None:
            raise SchemaChangeError(f"fields {alike[0]} and {alike[1]} differ only in case", feed=feed.name)
    scan = _Scan(feed, folder, state, marked=marked)
    if feed.kind == "stream":
        rows = _stream(scan, state) if state.partitions else committed_rows(state, str)
        return [View(feed.name, rows, about), *between_macros(feed, state, rows)]
    latest, every = (
        (_latest(scan, unified_columns(state, state.partition_keys()[-1:])[0]), _versions(scan, state))
        if state.partitions
        else (committed_rows(state, str),) * 2
    )
    return [
        View(feed.name, latest, f"{about} (the latest version)"),
        View(f"{feed.name}_versions", every, f"{about} (all kept versions)"),
    ]


class _Scan:
    """All files of a feed as one relation with the path columns and, under a unique name, each row's file.

    Args:
        feed: The feed.
        folder: The lake, as the catalog names it.
        state: The committed state of the feed.
        marked: Whether a folder above the lake is named `x=y`, which DuckDB reads as a column.
    """

    def __init__(self, feed: Feed, folder: str, state: FeedState, *, marked: bool) -> None:
        self.kind = feed.kind
        self.marked = marked
        self.dataset = FeedLayout(feed.kind, feed.name).dataset
        self.files = sql_text(f"{literally(folder)}/{self.dataset}/{_DEPTH[feed.kind]}")
        self.names = unified_columns(state)[0].names
        self.file = free_name("ksql_lake_file", self.names)

    @property
    def sql(self) -> str:
        """The SQL that follows FROM."""
        options, terms = path_terms(self.kind, "=" if self.marked else "", self.names)
        if self.marked:
            listed = ", ".join(["*", *terms])
            return f"(SELECT {listed} FROM read_parquet({self.files}, union_by_name = true, {options}))"
        # Lake and catalog may be moved together, also below a folder that DuckDB reads as a column.
        problem = sql_text("a folder above the lake is now named x=y: run ksql-lake catalog again")
        moved = f"contains(split_part({self.file}, {sql_text(f'/{self.dataset}/')}, 1), '=')"
        return (
            f"(FROM read_parquet({self.files}, union_by_name = true, {options}, filename = '{self.file}') "
            f"WHERE CASE WHEN {moved} THEN error({problem}) ELSE true END)"
        )


def _stream(scan: _Scan, state: FeedState) -> str:
    """Return each row once, also during a merge: the footer of a merged file names the files it replaces."""
    columns, _ = unified_columns(state)
    # A value that needs a later, wider type is an error, so a column's type never changes silently.
    listed = [
        f"CAST(f.{sql_name(column.name)} AS {sql_type(column.type)}) AS {sql_name(column.name)}"
        for column in columns
    ]
    return (
        f"SELECT {', '.join([*listed, *PATH_COLUMNS['stream']])}\nFROM {scan.sql} AS f\n"
        "ANTI JOIN (\n"
        "SELECT unnest(from_json(decode(value), '[\"VARCHAR\"]')) AS replaced\n"
        f"FROM parquet_kv_metadata({scan.files}) WHERE decode(key) = 'ksql_lake.replaces'\n"
        f") AS merged ON merged.replaced = regexp_extract(f.{scan.file}, 'year=[^/]*/[^/]*/[^/]*/[^/]*$')"
    )


def _guarded(columns: Schema) -> list[str]:
    """Return columns that raise an error if the files have another type: versions may change in any way."""
    listed = []
    for column in columns:
        name, kind = f"f.{sql_name(column.name)}", sql_type(column.type)
        problem = sql_text(f"column {column.name} now has another type: run ksql-lake catalog again")
        same = f"typeof({name}) = typeof(CAST(NULL AS {kind}))"
        listed.append(f"CASE WHEN {same} THEN {name} ELSE error({problem}) END AS {sql_name(column.name)}")
    return listed


def _versions(scan: _Scan, state: FeedState) -> str:
    columns, held = unified_columns(state)
    apart = sorted({lake for names in held for lake, own in names.items() if lake != own})
    if apart:
        problem = f"column {apart[0]} has another type in some version; read them with ksql-lake sql"
        return f"SELECT error({sql_text(problem)}) AS problem"
    return f"SELECT {', '.join([*_guarded(columns), 'f.version'])}\nFROM {scan.sql} AS f"


def _latest(scan: _Scan, columns: Schema) -> str:
    number = "max(CAST(regexp_extract(file, '/version=v([0-9]+)/[^/]*$', 1) AS BIGINT))"
    return (
        f"SELECT {', '.join([*_guarded(columns), 'f.version'])}\n"
        f"FROM (SELECT 'v' || {number} AS version FROM glob({scan.files})) AS newest\n"
        f"JOIN {scan.sql} AS f ON f.version = newest.version"
    )


def _contents(entries: list[_Entry], folder: str) -> View:
    rows = [f"({', '.join(map(sql_text, entry))})" for entry in entries]
    listed = f"VALUES {', '.join(rows)}" if rows else "SELECT '', '', '', '', '', '' WHERE false"
    columns = "view_name, feed, kind, source, about, digest"
    return View(CONTENTS, f"SELECT * FROM ({listed}) AS t({columns})", f"{_ABOUT}{folder}")


def _write(path: Path, views: Iterable[View | Macro], *, search: Path) -> None:
    connection = duckdb.connect()
    try:
        # The views' paths are relative to the folder of the finished file.
        connection.execute(f"SET file_search_path = {sql_text(str(search))}")
        connection.execute(f"ATTACH {sql_text(str(path))} AS catalog (STORAGE_VERSION '{_STORAGE}')")
        connection.execute("USE catalog")
        create_views(connection, views, "catalog.main")
    finally:
        connection.close()


def _check_ours(path: Path) -> None:
    if not path.exists():
        return
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            found = connection.execute(
                "SELECT count(*) FILTER (view_name = ?) FROM duckdb_views() WHERE NOT internal", [CONTENTS]
            ).fetchone()
    except duckdb.Error:
        found = None
    if found != (1,):
        raise ConfigError(
            "this file exists already and is no catalog of ksql-lake, so it stays as it is",
            hint="Name another file, or move this one away.",
            path=path,
        )


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, duckdb.IOException) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"the catalog cannot be written: {reason}", hint="Name another file.", path=path
        ) from error
