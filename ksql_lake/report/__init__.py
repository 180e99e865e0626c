"""The monitoring report: what the lake's metadata says about its feeds. It writes nothing into the lake."""

from __future__ import annotations

from ksql_lake.report.analyzer import MetadataAnalyzer
from ksql_lake.report.documents import json_schema, render_csv, render_json, render_prometheus, summary
from ksql_lake.report.feed_model import FeedReport, Status
from ksql_lake.report.html import render_html, render_markdown
from ksql_lake.report.lake_facts import FeedMetadata, MetadataReader
from ksql_lake.report.lake_model import Report

__all__ = [
    "FeedMetadata",
    "FeedReport",
    "MetadataAnalyzer",
    "MetadataReader",
    "Report",
    "Status",
    "json_schema",
    "render_csv",
    "render_html",
    "render_json",
    "render_markdown",
    "render_prometheus",
    "summary",
]
