"""Jobs of a single op, whatever feeds are called.

Dagster keeps assets, ops and graphs of a code location in one namespace, and one clash takes the whole location
down. So graphs and ops of ours begin with an underscore, which no feed's name can.
"""

from collections.abc import Mapping

import dagster as dg

from ksql_lake.defs.priorities import run_tags


def one_op_job(
    name: str,
    description: str,
    op: dg.OpDefinition,
    *,
    tags: Mapping[str, str] | None = None,
    partitions: dg.PartitionsDefinition[str] | None = None,
) -> dg.JobDefinition:
    """Give a job that runs one op in the run's own process; the op's name must begin with an underscore.

    Args:
        name: The job's name.
        description: What it does.
        op: The op.
        tags: Of its runs; None means those of upkeep.
        partitions: What a run may be about.
    """
    graph = dg.GraphDefinition(f"_{name}", node_defs=[op])
    return graph.to_job(
        name=name,
        description=description,
        executor_def=dg.in_process_executor,
        tags=tags or run_tags("upkeep"),
        partitions_def=partitions,
    )
