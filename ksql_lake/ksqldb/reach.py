"""Which kind of query can read all of a source on this server: pull where possible, push elsewhere.

A pull query proves its own end and a push query does not, so push is chosen only for a reason, and the reason
is told. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ksql_lake.ksqldb.catalog import SourceDescription
from ksql_lake.ksqldb.refusals import PUSH_FIX
from ksql_lake.ksqldb.version import ServerVersion

Extraction = Literal["pull", "push"]


@dataclass(frozen=True, slots=True)
class Reach:
    """How a source can be read.

    Attributes:
        extraction: `pull` or `push`.
        reason: Why no pull query can read it; empty for `pull`.
        fix: What would help; empty for `pull`.
    """

    extraction: Extraction
    reason: str = ""
    fix: str = ""


def reach(source: SourceDescription, version: ServerVersion) -> Reach:
    """Tell how a source can be read on a server of this version."""
    if source.kind == "stream" and not version.pulls_streams:
        reason = (
            f"{source.name} is a stream, and this server has release {version.text}: pull queries on streams "
            "came with ksqlDB 0.23 (Confluent Platform 7.1)"
        )
        return Reach("push", reason, f"{PUSH_FIX}.")
    if not source.queryable:
        return Reach("push", source.reason, source.fix)
    return Reach("pull")
