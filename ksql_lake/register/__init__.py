"""Indexes of the lake in table formats: Delta Lake and Iceberg over the same Parquet files."""

from ksql_lake.register.freshness import keep_fresh
from ksql_lake.register.index import FORMATS, Format, Index, refresh, register, registered, stale, unregister

__all__ = [
    "FORMATS",
    "Format",
    "Index",
    "keep_fresh",
    "refresh",
    "register",
    "registered",
    "stale",
    "unregister",
]
