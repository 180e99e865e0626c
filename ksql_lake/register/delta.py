"""Write a Delta Lake log over a feed's Parquet files."""

# delta-rs reads only files below the table's folder, so the folder holds a relative link to the dataset. The
# entries are written here, because no library can set a writer feature that keeps all writers away; a write
# through Delta would change the lake without a manifest. Delta has no type for a time of day: such columns are
# left out and named.

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError

from ksql_lake.errors import ConfigError, ConflictError
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake.register.contents import BuiltIndex, Contents, IndexedFile
from ksql_lake.register.damage import LINK
from ksql_lake.schema import Primitive, Schema

READ_ONLY = "ksqlLakeReadOnly"
"""A writer feature that no writer supports, which makes the table read-only."""
CHECKPOINT_EVERY = 100
"""Entries of the log between two checkpoints; readers skip the entries before a checkpoint."""
_SKIPPED_BY = "delta.dataSkippingStatsColumns"
_COUNTED = (Primitive.INTEGER, Primitive.BIGINT, Primitive.DATE, Primitive.TIMESTAMP)
"""Types of columns whose smallest and largest value the log holds: JSON holds them exactly, and none is NaN."""
_LOGGED = re.compile(r"[0-9]{20}\.(json|checkpoint\.parquet)")
"""Names of the log's entries and checkpoints; a checkpoint's is before that of its version's entry."""
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class _Held:
    """The contents of the log: last version, the table's id and columns, and path -> size of each file."""

    version: int
    id: str
    columns: str
    files: dict[str, int]


def build(storage: LocalStorage, folder: str, wanted: Contents, held: Schema | None) -> BuiltIndex:
    """Write the log in a folder so that it has the wanted contents; see `index.Builder`.

    Raises:
        ConfigError: No Delta table can be at this path.
        ConflictError: Another run wrote to the log meanwhile.
        WriteError: The disk is full or not writable.
    """
    root = Path(storage.uri(folder))
    if "%" in str(root):
        raise ConfigError(
            "no Delta table can be here: delta-rs reads a % in a path as an escape",
            hint="Move the lake to a folder without %, or register it as iceberg.",
            path=str(root),
        )
    counted = _counted(wanted.schema)
    known = _read(root, counted) if held is not None else None
    if known is None:
        storage.remove_folder(folder)
    storage.begin(f"{folder}/_delta_log")
    _link(storage, root, storage.uri(wanted.layout.dataset))
    kept, left_out = _known_types(wanted.arrow)
    columns = DeltaSchema.from_arrow(kept).to_json()
    files = {f"{LINK}/{file.path}": file for file in wanted.files}
    before = known.files if known else {}
    added = [path for path in files if path not in before]
    removed = [path for path in before if path not in files]
    actions: list[dict[str, Any]] = []
    if known is None:
        protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [READ_ONLY]}
        actions.append({"protocol": protocol})
    if known is None or json.loads(known.columns) != json.loads(columns):
        actions.append(_table(wanted, columns, counted, known.id if known else str(uuid.uuid4())))
    actions += [_remove(path, before[path]) for path in removed]
    for path in added:
        statistics = _statistics(storage.uri(wanted.layout.data(files[path].path)), counted)
        actions.append(_add(path, files[path], wanted.partition_columns.names, statistics))
    version = known.version + 1 if known else 0
    _commit(storage, folder, version, actions)
    if version and version % CHECKPOINT_EVERY == 0:
        DeltaTable(root.as_uri()).create_checkpoint()
    needed = _needed(storage, folder)
    return BuiltIndex(f"_delta_log/{_entry(version)}", needed, len(added), len(removed), tuple(left_out))


def _read(root: Path, counted: list[str]) -> _Held | None:
    """Read the log; None if it cannot be read or has statistics of other columns, and must be rewritten."""
    try:
        table = DeltaTable(root.as_uri())
        actions = pa.table(table.get_add_actions(flatten=True))
    except DeltaError:
        return None
    if (table.metadata().configuration.get(_SKIPPED_BY) or "") != ",".join(counted):
        # If some files have bounds of a column and others do not, delta-rs skips the others.
        return None
    paths, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
    return _Held(
        version=table.version(),
        id=str(table.metadata().id),
        columns=table.schema().to_json(),
        files=dict(zip(paths, sizes, strict=True)),
    )


def _link(storage: LocalStorage, root: Path, dataset: str) -> None:
    """Link the dataset into the table's folder; relative, so that it survives a move of the lake."""
    link, target = root / LINK, os.path.relpath(dataset, root)
    if link.is_symlink() and str(link.readlink()) == target:
        return
    with storage.writing(str(link)):
        link.unlink(missing_ok=True)
        link.symlink_to(target, target_is_directory=True)


def _commit(storage: LocalStorage, folder: str, version: int, actions: Iterable[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions)
    key = f"{folder}/_delta_log/{_entry(version)}"
    if not storage.create(key, lines.encode(), temporary=f"{folder}/_entry.tmp"):
        raise ConflictError(
            "another run wrote to the Delta log meanwhile", hint="Register again.", path=storage.uri(key)
        )


def _entry(version: int) -> str:
    return f"{version:020d}.json"


def _needed(storage: LocalStorage, folder: str) -> tuple[str, ...]:
    """Return the log's files that readers need: the last checkpoint, and the entries from its version on."""
    names = [name for name in storage.names(f"{folder}/_delta_log") if _LOGGED.fullmatch(name)]
    checkpoint = max((name for name in names if name.endswith(".parquet")), default="")
    return tuple(f"_delta_log/{name}" for name in names if name >= checkpoint)


def _known_types(schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
    """Return the columns as Delta stores them, and those for which it has no type."""
    kept, left_out = [], []
    for field in schema:
        if _holds_time(field.type):
            left_out.append(f"{field.name} (Delta has no type for a time of day)")
        else:
            kept.append(field.with_type(_in_microseconds(field.type)))
    return pa.schema(kept), left_out


def _holds_time(kind: pa.DataType) -> bool:
    return pa.types.is_time(kind) or any(_holds_time(child.type) for child in _children(kind))


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    """Return a type with its timestamps in microseconds, the only ones Delta has."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_list(kind):
        return pa.list_(_in_microseconds(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(_in_microseconds(kind.key_type), _in_microseconds(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_in_microseconds(field.type)) for field in kind])
    return kind


def _children(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(at) for at in range(kind.num_fields)] if pa.types.is_nested(kind) else []


def _table(wanted: Contents, columns: str, counted: list[str], identity: str) -> dict[str, Any]:
    return {
        "metaData": {
            "id": identity,
            "name": wanted.layout.name,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": columns,
            "partitionColumns": wanted.partition_columns.names,
            # The other columns have no bounds; without this setting delta-rs would find no row by a filter on
            # them.
            "configuration": {_SKIPPED_BY: ",".join(counted)} if counted else {},
            "createdTime": _now(),
        }
    }


def _add(path: str, file: IndexedFile, names: list[str], statistics: dict[str, Any]) -> dict[str, Any]:
    return {
        "add": {
            "path": path,
            "partitionValues": dict(zip(names, map(str, file.partition), strict=True)),
            "size": file.bytes,
            "modificationTime": file.committed_at,
            "dataChange": True,
            "stats": json.dumps(statistics),
        }
    }


def _counted(schema: Schema) -> list[str]:
    """Return the columns whose smallest and largest value and number of NULLs the log holds."""
    return [column.name for column in schema if column.type in _COUNTED and _PLAIN_NAME.fullmatch(column.name)]


def _statistics(path: str, counted: list[str]) -> dict[str, Any]:
    """Return the log's statistics of a file: rows and, for some columns, smallest, largest and NULLs.

    The table's configuration names these columns: by a filter on a column without statistics, or with a NaN,
    delta-rs would find no row. A column that was added later is NULL in all rows.
    """
    with pq.ParquetFile(path) as file:
        footer = file.metadata
        statistics: dict[str, Any] = {"numRecords": footer.num_rows}
        if not counted:
            return statistics
        places = {footer.schema.column(at).path: at for at in range(footer.num_columns)}
        low, high, nulls = {}, {}, {}
        for name in counted:
            at = places.get(name)
            nulls[name], ends = (footer.num_rows, None) if at is None else _bounds(file, name, at)
            if ends is not None:
                low[name], high[name] = map(_text, ends)
    return statistics | {"minValues": low, "maxValues": high, "nullCount": nulls}


def _bounds(file: pq.ParquetFile, name: str, at: int) -> tuple[int, tuple[Any, Any] | None]:
    """Return how many of a column's values are NULL, and the smallest and largest of the others."""
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    found: list[Any] = [group.column(at).statistics for group in groups]
    rows = [group.num_rows for group in groups]
    if not all(map(_says_all, found, rows)):
        values = file.read(columns=[name]).column(name)
        ends = pc.min_max(values).as_py()
        return values.null_count, None if ends["min"] is None else (ends["min"], ends["max"])
    nulls: int = sum(each.null_count for each in found)
    try:
        bounds = [(each.min, each.max) for each in found if each.has_min_max]
    except (OverflowError, ValueError):  # a year that Python does not support
        whole = date if pa.types.is_date32(file.schema_arrow.field(name).type) else datetime
        return nulls, (whole.min, whole.max)
    return nulls, (min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None


def _says_all(statistics: Any, rows: int) -> bool:
    """Whether a footer has a column's number of NULLs, and the bounds of its other values if any."""
    if statistics is None or not statistics.has_null_count:
        return False
    return statistics.has_min_max or bool(statistics.null_count == rows)


def _text(value: Any) -> int | str:
    """Return a bound as Delta writes it."""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else int(value)


def _remove(path: str, size: int) -> dict[str, Any]:
    return {"remove": {"path": path, "deletionTimestamp": _now(), "dataChange": True, "size": size}}


def _now() -> int:
    return round(time.time() * 1000)
