"""How an answer ends that a fault strikes: in the middle of a row, silently, or as if it were complete."""

from __future__ import annotations

from ksql_lake.devserver.faults import Fault
from ksql_lake.devserver.framing import Framing, Parts
from ksql_lake.devserver.ksql_errors import RefusedError
from ksql_lake.devserver.service.body import AnswerBody
from ksql_lake.devserver.store.running_queries import RunningQuery

KEEPALIVE_SECONDS = 1.0
"""Seconds between two signs of life of the older writer."""


async def strike(
    fault: Fault, half_row: bytes, body: AnswerBody, query: RunningQuery, framing: Framing, end: Parts
) -> None:
    """End an answer as a fault says; returns when nothing more is to be written.

    Args:
        fault: One of `faults.STOPPING`, except `failure`.
        half_row: The beginning of the row that would come next.
        body: The answer.
        query: The query that it answers.
        framing: The form in which it is written.
        end: Its end if it were complete.
    """
    match fault.kind:
        case "cut_row":
            if half_row:
                await body.piece(half_row)
            await body.cut(query.gone)
        case "cut_chunk":
            await body.cut(query.gone)
        case "reset":
            await body.cut(query.gone, reset=True)
        case "hang":
            await body.flush()
            await query.pause(None)
            await body.cut(query.gone)
        case "stall":
            await body.flush()
            while not query.over:
                await query.pause(KEEPALIVE_SECONDS)
                await body.text(framing.keepalive)
            await body.cut(query.gone)
        case "error":
            refusal = RefusedError(fault.message, code=fault.code, statement=None)
            await body.finish(*framing.error(refusal.body()))
            await body.end()
        case "no_final":
            await body.complete(*framing.end)
            await body.end()
        case "no_bracket":
            await body.end()
        case _:  # short, stranger_close
            await body.complete(*end)
            await body.end()
