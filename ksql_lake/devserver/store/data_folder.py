"""Load `--data DIR`: each NAME.sql creates a source and the data file beside it fills it."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import duckdb

from ksql_lake.devserver.sql.parsing import parse_statements
from ksql_lake.devserver.sql.source_columns import WINDOW_BOUNDS, Source, literal, quoted, stored_type
from ksql_lake.devserver.sql.statements import Create
from ksql_lake.devserver.store.intake import append_json_lines, arrivals, row_time
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.errors import ConfigError

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zip", ".jsonl")


def load_folder(folder: Path, catalog: Catalog) -> None:
    """Create and fill every source the folder describes.

    Raises:
        ConfigError: No such folder, nothing in it, or a file that does not fit its statement.
        RefusedError: A statement is wrong.
    """
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise ConfigError(f"{folder}: no NAME.sql file there", hint="One CREATE STREAM or TABLE per file.")
    for file in files:
        creates = [item for item in parse_statements(file.read_text("utf-8")) if isinstance(item, Create)]
        if not creates:
            raise ConfigError("no CREATE STREAM or CREATE TABLE in it", path=file)
        for statement in creates:
            catalog.create(statement)
        for suffix in SUFFIXES:
            data = file.with_name(file.stem + suffix)
            if data.is_file():
                load_file(catalog.sources[creates[0].name], data, catalog)


def load_file(source: Source, path: Path, catalog: Catalog) -> int:
    """Append a file's rows; returns how many.

    Raises:
        ConfigError: The file lacks a column, or a value does not fit.
    """
    if path.suffix == ".jsonl":
        return append_json_lines(source.name, path.read_bytes(), catalog)
    if path.suffix != ".zip":
        return _load_table(source, path, path, catalog)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.lower().endswith(".csv")]
        if len(members) != 1:
            raise ConfigError("a .csv.zip must hold exactly one .csv", path=path)
        return _load_table(source, Path(archive.extract(members[0], folder)), path, catalog)


def _load_table(source: Source, data: Path, shown: Path, catalog: Catalog) -> int:
    if data.suffix == ".parquet":
        reader = f"read_parquet({literal(str(data))})"
    else:
        reader = f"read_csv({literal(str(data))}, header = true, all_varchar = true, nullstr = ['', 'NA'])"
    try:
        names = [str(row[0]) for row in catalog.database.execute(f"DESCRIBE FROM {reader}").fetchall()]
        return catalog.append(source, _rows(source, reader, names, shown, catalog.now()))
    except duckdb.Error as error:
        raise ConfigError(
            f"the rows do not fit {source.name}: {str(error).splitlines()[0]}", path=shown
        ) from None


def _rows(source: Source, reader: str, names: list[str], shown: Path, now: int) -> str:
    folded = {name.lower(): name for name in reversed(names)}

    def cast(name: str, stored: str) -> str:
        found = name if name in names else folded.get(name.lower())
        if found is None:
            raise ConfigError(f"no column {name} in it, only {', '.join(names)}", path=shown)
        return f"CAST({quoted(found)} AS {stored})"

    columns = [
        f"{cast(item.name, stored_type(item.type))} AS {quoted(item.stored_as)}" for item in source.columns
    ]
    columns += [f"{cast(name, 'BIGINT')} AS {name}" for name in (WINDOW_BOUNDS if source.window_type else ())]
    given = "NULL"
    if "rowtime" in folded:
        columns.append(f"{cast('ROWTIME', 'BIGINT')} AS given_time")
        given = "given_time"
    return arrivals(source, f"SELECT {', '.join(columns)} FROM {reader}", moment=row_time(source, now, given))
