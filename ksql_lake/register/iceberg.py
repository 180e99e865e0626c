"""Write Iceberg metadata over a feed's Parquet files."""

# Columns are found by name through a name mapping, because the files carry no field ids. Iceberg names files by
# full path, so a moved lake needs a new index. The last two snapshots are kept for readers that opened the one
# before.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

import pyarrow.parquet as pq
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import PY_IO_IMPL
from pyiceberg.io.pyarrow import (
    MetricModeTypes,
    MetricsMode,
    StatisticsCollector,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record

from ksql_lake.errors import StoreError
from ksql_lake.lake.files.evolution import unify
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake.register.contents import BuiltIndex, Contents, IndexedFile
from ksql_lake.register.damage import HINT
from ksql_lake.register.store_files import ROOT, StoreFiles
from ksql_lake.schema import Schema

_NAME = ("lake", "feed")
_FILES = f"{StoreFiles.__module__}.{StoreFiles.__qualname__}"
_PROPERTIES = {
    TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
    TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: "2",
}


def build(storage: Storage, folder: str, wanted: Contents, held: Schema | None) -> BuiltIndex:
    """Write the metadata in a folder so that it has the wanted contents; see `index.Builder`.

    Raises:
        WriteError: The disk is full or not writable.
    """
    carried_on = held is not None and _only_grown(held, wanted.schema)
    with _catalog(storage) as catalog, storage.writing(folder):
        known = _opened(catalog, storage, folder) if carried_on else None
        if known is None:
            storage.remove_folder(folder)
        table, before = known or (_created(catalog, storage, folder, wanted), {})
        files = {storage.uri(wanted.layout.data(file.path)): file for file in wanted.files}
        added = [path for path in files if path not in before]
        removed = [path for path in before if path not in files]
        _forget_old_snapshots(table)
        with table.transaction() as change:
            _set_columns(change, wanted)
            made = _data_files(
                storage, wanted.layout, change.table_metadata, {path: files[path] for path in added}
            )
            update = change.update_snapshot()
            with update.overwrite() if removed else update.merge_append() as snapshot:
                for path in removed:
                    snapshot.delete_data_file(before[path])
                for file in made:
                    snapshot.append_data_file(file)
        head = table.metadata_location.rsplit("/", 1)[1]
    storage.replace(f"{folder}/{HINT}", head.encode(), temporary=f"{folder}/metadata/hint.tmp")
    _sweep(table, storage, f"{folder}/metadata")
    needed = [f"metadata/{name}" for name in (head, *sorted(_files_of(table, table.current_snapshot())))]
    return BuiltIndex(needed[0], tuple(needed), len(added), len(removed))


@contextmanager
def _catalog(storage: Storage) -> Iterator[InMemoryCatalog]:
    """Yield a temporary catalog for writing metadata files; readers need none."""
    files = {} if isinstance(storage, LocalStorage) else {PY_IO_IMPL: _FILES, ROOT: storage.uri("")}
    catalog = InMemoryCatalog("ksql-lake", **files)
    try:
        catalog.create_namespace(_NAME[0])
        yield catalog
    finally:
        catalog.close()


def _opened(
    catalog: InMemoryCatalog, storage: Storage, folder: str
) -> tuple[Table, dict[str, DataFile]] | None:
    """Return the table and its data files by path; None if it cannot be read, and must be rewritten."""
    try:
        head = (storage.read(f"{folder}/{HINT}") or b"").decode()
        table = catalog.register_table(_NAME, storage.uri(f"{folder}/metadata/{head}"))
        return table, {task.file.file_path: task.file for task in table.scan().plan_files()}
    except (StoreError, PermissionError):
        raise
    except Exception:  # noqa: BLE001 - for damaged files pyiceberg has no error of its own
        with suppress(NoSuchTableError):
            catalog.drop_table(_NAME)
        return None


def _created(catalog: InMemoryCatalog, storage: Storage, folder: str, wanted: Contents) -> Table:
    table = catalog.create_table(
        _NAME, schema=wanted.arrow, location=storage.uri(folder), properties=dict(_PROPERTIES)
    )
    with table.update_spec() as spec:
        for name in wanted.partition_columns.names:
            spec.add_identity(name)
    return table


def _only_grown(held: Schema, wanted: Schema) -> bool:
    """Whether columns were only added or widened, which Iceberg can do without new ids."""
    both = {column.name: column.type for column in unify(held, wanted)}
    return both == {column.name: column.type for column in wanted}


def _set_columns(change: Transaction, wanted: Contents) -> None:
    with change.update_schema() as schema:
        schema.union_by_name(wanted.arrow)
    mapping = change.table_metadata.schema().name_mapping.model_dump_json()
    change.set_properties({TableProperties.DEFAULT_NAME_MAPPING: mapping})


def _data_files(
    storage: Storage, layout: FeedLayout, metadata: TableMetadata, files: Mapping[str, IndexedFile]
) -> Iterator[DataFile]:
    """Return data files with the statistics of their footers."""
    schema = metadata.schema()
    plan = compute_statistics_plan(schema, metadata.properties)
    places = parquet_path_to_id_mapping(schema)
    for path, file in files.items():
        with storage.open(layout.data(file.path)) as source:
            footer = pq.read_metadata(source)
        try:
            statistics = data_file_statistics_from_parquet_metadata(footer, plan, places)
        except (OverflowError, ValueError):  # a time in a year that Python does not support
            statistics = data_file_statistics_from_parquet_metadata(footer, _without_bounds(plan), places)
        yield DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=Record(*file.partition),
            file_size_in_bytes=file.bytes,
            sort_order_id=None,
            spec_id=metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )


def _without_bounds(plan: dict[int, StatisticsCollector]) -> dict[int, StatisticsCollector]:
    """Return a plan that only counts the columns' values, so that readers read the file instead of bounds."""
    counts = MetricsMode(MetricModeTypes.COUNTS)
    return {number: replace(collector, mode=counts) for number, collector in plan.items()}


def _forget_old_snapshots(table: Table) -> None:
    current = table.current_snapshot()
    old = [snapshot.snapshot_id for snapshot in table.snapshots() if snapshot != current]
    if old:
        table.maintenance.expire_snapshots().by_ids(old).commit()


def _files_of(table: Table, snapshot: Snapshot | None) -> set[str]:
    """Return the names of a snapshot's manifest list and manifests."""
    if snapshot is None:
        return set()
    paths = [snapshot.manifest_list, *(manifest.manifest_path for manifest in snapshot.manifests(table.io))]
    return {path.rsplit("/", 1)[1] for path in paths}


def _sweep(table: Table, storage: Storage, folder: str) -> None:
    """Remove the files of expired snapshots."""
    needed = {HINT.rsplit("/", 1)[1], table.metadata_location.rsplit("/", 1)[1]}
    needed |= {entry.metadata_file.rsplit("/", 1)[1] for entry in table.metadata.metadata_log}
    for snapshot in table.snapshots():
        needed |= _files_of(table, snapshot)
    for name in storage.names(folder):
        if name not in needed:
            storage.remove(f"{folder}/{name}")
