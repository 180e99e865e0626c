from collections.abc import Mapping, Sequence
from typing import Any

from pyarrow.lib import DataType, Schema, Table

class ReadOptions:
    def __init__(self, **options: Any) -> None: ...

class ParseOptions:
    def __init__(self, **options: Any) -> None: ...

class ConvertOptions:
    def __init__(
        self,
        check_utf8: bool | None = ...,
        *,
        column_types: Schema | Mapping[str, DataType] | None = ...,
        null_values: Sequence[str] | None = ...,
        strings_can_be_null: bool | None = ...,
        quoted_strings_can_be_null: bool | None = ...,
        **options: Any,
    ) -> None: ...

def read_csv(
    input_file: Any,
    read_options: ReadOptions | None = ...,
    parse_options: ParseOptions | None = ...,
    convert_options: ConvertOptions | None = ...,
) -> Table: ...
