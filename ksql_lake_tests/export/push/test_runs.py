"""Pieces of a push query, put together for one decoding."""

from __future__ import annotations

from ksql_lake.export.push.beacon import runs
from ksql_lake.ksqldb import RowBlock
from ksql_lake.ksqldb.wire.answer_events import Event, FinalMessage, Token, Tombstone


def test_rows_and_deletions_in_turns_are_one_run() -> None:
    """However often they alternate, they are decoded together, and each row knows whether it is a deletion."""
    pieces: list[Event] = []
    for number in range(0, 400, 4):
        pieces += [RowBlock(b"[1],[2]", 2, number), Token("continuation", "x"), Tombstone(b"[3]", number + 2)]
        pieces += [Tombstone(b"[4]", number + 3)]

    (run,) = runs(pieces, first_row=7)

    assert (run.first_row, run.count) == (7, 400)
    assert run.data == b",\n".join([b"[1],[2]", b"[3]", b"[4]"] * 100)
    assert run.gone.tolist() == [False, False, True, True] * 100


def test_pieces_without_rows_are_no_run() -> None:
    """Tokens and last words alone leave nothing to decode."""
    assert list(runs([Token("continuation", "x"), FinalMessage("Query Completed")], first_row=0)) == []
