"""The use case: plan what to read, read it, land it. The shell and Dagster both call this."""

from ksql_lake.export.export_plan import ExportPlan, plan_export
from ksql_lake.export.extraction import Extraction, extract
from ksql_lake.export.landing import export_feed, land
from ksql_lake.export.result import ExportResult, PartitionResult, Progress
from ksql_lake.lake.days import Days

__all__ = [
    "Days",
    "ExportPlan",
    "ExportResult",
    "Extraction",
    "PartitionResult",
    "Progress",
    "export_feed",
    "extract",
    "land",
    "plan_export",
]
