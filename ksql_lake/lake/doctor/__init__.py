"""Verify a lake against its manifests, and repair it."""

from ksql_lake.lake.doctor.examination import Examination, examine, feeds_in
from ksql_lake.lake.doctor.findings import Finding, Problem, Remedy
from ksql_lake.lake.doctor.repair import repair

__all__ = ["Examination", "Finding", "Problem", "Remedy", "examine", "feeds_in", "repair"]
