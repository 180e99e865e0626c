"""A Delta Lake log over a feed's Parquet files.

delta-rs reads only files below the table's folder and no absolute paths, so the folder holds a relative link to
the dataset; the index therefore survives when the lake is moved. The entries of the log are written here and
not by the library, because no library writes what they declare: a writer feature that nobody knows, so that
Delta's own protocol keeps writers away (`optimize`, `delete` or an append would otherwise change the lake
behind its manifests) while every reader may read. Delta has no type for a time of day: such columns are left
out, and said to be.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError

from ksql_lake.errors import ConfigError, ConflictError
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake.register.contents import BuiltIndex, Contents, IndexedFile
from ksql_lake.schema import Schema

READ_ONLY = "ksqlLakeReadOnly"
"""The writer feature that no writer has."""
CHECKPOINT_EVERY = 100
"""Entries of the log between two checkpoints, which spare readers the entries before them."""
_LINK = "data"
_TIME = "ROWTIME"


@dataclass(frozen=True, slots=True)
class _Held:
    """What the log says: its last version, the table's id and columns, and each file's size by its path."""

    version: int
    id: str
    columns: str
    files: dict[str, int]


def build(storage: LocalStorage, folder: str, wanted: Contents, held: Schema | None) -> BuiltIndex:
    """Make the log in a folder say what is wanted; see `index.Builder`.

    Raises:
        ConfigError: No Delta table can be at this path.
        ConflictError: Another run wrote to the log meanwhile.
        WriteError: The disk or its permissions are in the way.
    """
    root = Path(storage.uri(folder))
    if "%" in str(root):
        raise ConfigError(
            "no Delta table can be here: delta-rs takes a % in a path for an escape",
            hint="Move the lake to a folder without %, or register it as iceberg.",
            path=str(root),
        )
    known = _read(root) if held is not None else None
    if known is None:
        storage.remove_folder(folder)
    storage.begin(f"{folder}/_delta_log")
    _link(storage, root, storage.uri(wanted.layout.dataset))
    kept, left_out = _known_types(wanted.arrow)
    columns = DeltaSchema.from_arrow(kept).to_json()
    files = {f"{_LINK}/{file.path}": file for file in wanted.files}
    before = known.files if known else {}
    added = [path for path in files if path not in before]
    removed = [path for path in before if path not in files]
    actions: list[dict[str, Any]] = []
    if known is None:
        protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [READ_ONLY]}
        actions.append({"protocol": protocol})
    if known is None or json.loads(known.columns) != json.loads(columns):
        actions.append(_table(wanted, columns, known.id if known else str(uuid.uuid4())))
    actions += [_remove(path, before[path]) for path in removed]
    for path in added:
        footer = pq.read_metadata(storage.uri(wanted.layout.data(files[path].path)))
        actions.append(_add(path, files[path], wanted.partition_columns.names, _statistics(footer)))
    version = known.version + 1 if known else 0
    _commit(storage, folder, version, actions)
    if version and version % CHECKPOINT_EVERY == 0:
        DeltaTable(root.as_uri()).create_checkpoint()
    return BuiltIndex(f"_delta_log/{_entry(version)}", len(added), len(removed), tuple(left_out))


def _read(root: Path) -> _Held | None:
    """Read the log; None when it cannot be read, so that it is written anew."""
    try:
        table = DeltaTable(root.as_uri())
        actions = pa.table(table.get_add_actions(flatten=True))
    except DeltaError:
        return None
    low = f"min.{_TIME}"
    timed = low in actions.column_names and not actions.column(low).null_count
    if _TIME in {field.name for field in table.schema().fields} and actions.num_rows and not timed:
        # Of a release that told no times: beside files of which they are told, delta-rs would skip these.
        return None
    paths, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
    return _Held(
        version=table.version(),
        id=str(table.metadata().id),
        columns=table.schema().to_json(),
        files=dict(zip(paths, sizes, strict=True)),
    )


def _link(storage: LocalStorage, root: Path, dataset: str) -> None:
    """Let the table's folder hold the dataset: relative, so that it survives a move of the lake."""
    link, target = root / _LINK, os.path.relpath(dataset, root)
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


def _known_types(schema: pa.Schema) -> tuple[pa.Schema, list[str]]:
    """Return the columns as Delta stores them, and those it has no type for."""
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


def _table(wanted: Contents, columns: str, identity: str) -> dict[str, Any]:
    return {
        "metaData": {
            "id": identity,
            "name": wanted.layout.name,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": columns,
            "partitionColumns": wanted.partition_columns.names,
            # Of all others nothing is told; delta-rs would take that for values no filter fits.
            "configuration": {"delta.dataSkippingStatsColumns": _TIME} if _TIME in wanted.schema.names else {},
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


def _statistics(footer: pq.FileMetaData) -> dict[str, Any]:
    """Return what the log says of a file's rows: how many, and for a stream from when to when.

    Of no other column, and the table's configuration says so: where a file has no smallest value (all are NULL,
    one is NaN, the column came later), delta-rs thinks that no filter fits. ROWTIME always has one.
    """
    told: dict[str, Any] = {"numRecords": footer.num_rows}
    names = [footer.schema.column(at).path for at in range(footer.num_columns)]
    if _TIME not in names or not footer.num_row_groups:
        return told
    at = names.index(_TIME)
    groups = [footer.row_group(group).column(at).statistics for group in range(footer.num_row_groups)]
    found = [each for each in groups if each is not None and each.has_min_max]
    low, high = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    if len(found) == len(groups):
        with suppress(OverflowError, ValueError):  # a year that Python does not know
            low, high = min(each.min for each in found), max(each.max for each in found)
    return told | {
        "minValues": {_TIME: _moment(low)},
        "maxValues": {_TIME: _moment(high)},
        "nullCount": {_TIME: 0},
    }


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _remove(path: str, size: int) -> dict[str, Any]:
    return {"remove": {"path": path, "deletionTimestamp": _now(), "dataChange": True, "size": size}}


def _now() -> int:
    return round(time.time() * 1000)
