"""What we wrote into a data file's footer."""

from __future__ import annotations

import pyarrow.parquet as pq

_PREFIX = b"ksql_lake."


def footer_facts(parquet: pq.ParquetFile) -> dict[str, str]:
    """What we wrote into a file's footer, without the prefix; empty for a file that is not ours."""
    pairs: dict[bytes, bytes] = parquet.metadata.metadata or {}
    return {
        key.removeprefix(_PREFIX).decode(errors="replace"): value.decode(errors="replace")
        for key, value in pairs.items()
        if key.startswith(_PREFIX)
    }
