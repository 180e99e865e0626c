"""Parquet files of a lake: written, described and read."""
