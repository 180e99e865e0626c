"""Choose the columns of small files that compression hardly makes smaller; those stay as they are."""

# Arrow sets up a new zstd compressor for each page. For the few values of a small file that takes longer than
# encoding them.

from __future__ import annotations

import pyarrow.parquet as pq

_COLUMN_SHARE = 0.1
"""What compression must save of a column's bytes, or else"""
_FILE_SHARE = 0.005
"""of the whole file's, for the column to be compressed."""
_LEAST_BITS = 1
"""Bits per value below which a sample does not tell, as that of a column with NULLs only."""


def incompressible_columns(sample: pq.FileMetaData) -> frozenset[str]:
    """Return the Parquet columns that compression hardly makes smaller.

    Args:
        sample: The footer of a compressed file of one row group.
    """
    group = sample.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    enough = _FILE_SHARE * sum(column.total_compressed_size for column in columns)
    return frozenset(
        column.path_in_schema
        for column in columns
        if (saved := (plain := column.total_uncompressed_size) - column.total_compressed_size) < enough
        and saved < _COLUMN_SHARE * plain
        and plain * 8 >= _LEAST_BITS * column.num_values
    )
