"""The use case: plan what to read, read it, land it. The shell and Dagster both call this."""

# Its names load on first use: a command that plans or lists waits for no HTTP client and no decoder.

from typing import TYPE_CHECKING

from ksql_lake.lazy_names import lazy_names

if TYPE_CHECKING:
    from ksql_lake.export.cost import estimate
    from ksql_lake.export.export_plan import ExportPlan, plan_export
    from ksql_lake.export.extraction import Extraction, extract
    from ksql_lake.export.landing import export_feed, land
    from ksql_lake.export.result import ExportResult, PartitionResult, Progress
    from ksql_lake.lake.days import Days

_HOMES = {
    "Days": "ksql_lake.lake.days",
    "ExportPlan": "ksql_lake.export.export_plan",
    "ExportResult": "ksql_lake.export.result",
    "Extraction": "ksql_lake.export.extraction",
    "PartitionResult": "ksql_lake.export.result",
    "Progress": "ksql_lake.export.result",
    "estimate": "ksql_lake.export.cost",
    "export_feed": "ksql_lake.export.landing",
    "extract": "ksql_lake.export.extraction",
    "land": "ksql_lake.export.landing",
    "plan_export": "ksql_lake.export.export_plan",
}

__all__ = [
    "Days",
    "ExportPlan",
    "ExportResult",
    "Extraction",
    "PartitionResult",
    "Progress",
    "estimate",
    "export_feed",
    "extract",
    "land",
    "plan_export",
]

__getattr__ = lazy_names(__name__, _HOMES)
