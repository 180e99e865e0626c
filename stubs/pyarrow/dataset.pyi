from collections.abc import Iterator, Sequence
from typing import Any

from pyarrow.compute import Expression
from pyarrow.compute import field as field
from pyarrow.lib import RecordBatch, RecordBatchReader, Schema, Table

class Scanner:
    def to_reader(self) -> RecordBatchReader: ...
    def to_table(self) -> Table: ...
    def to_batches(self) -> Iterator[RecordBatch]: ...

class Dataset:
    @property
    def schema(self) -> Schema: ...
    def count_rows(self, filter: Expression | None = ..., **options: Any) -> int: ...
    def filter(self, expression: Expression) -> Dataset: ...
    def head(self, num_rows: int, **options: Any) -> Table: ...
    def scanner(
        self, columns: Sequence[str] | None = ..., filter: Expression | None = ..., **options: Any
    ) -> Scanner: ...
    def to_batches(
        self, columns: Sequence[str] | None = ..., filter: Expression | None = ..., **options: Any
    ) -> Iterator[RecordBatch]: ...
    def to_table(
        self, columns: Sequence[str] | None = ..., filter: Expression | None = ..., **options: Any
    ) -> Table: ...
    def get_fragments(self, filter: Expression | None = ...) -> Iterator[Any]: ...
    def replace_schema(self, schema: Schema) -> Dataset: ...

class Partitioning:
    @property
    def schema(self) -> Schema: ...

def dataset(
    source: Any,
    schema: Schema | None = ...,
    format: Any = ...,
    filesystem: Any = ...,
    partitioning: Any = ...,
    partition_base_dir: str | None = ...,
    exclude_invalid_files: bool | None = ...,
    ignore_prefixes: Sequence[str] | None = ...,
) -> Dataset: ...
def partitioning(
    schema: Schema | None = ...,
    field_names: Sequence[str] | None = ...,
    flavor: str | None = ...,
    dictionaries: Any = ...,
) -> Partitioning: ...
