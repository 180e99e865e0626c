"""Promises about every framing that ksqlDB's writers produce."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.ksqldb.wire.answer_events import Outcome, QueryKind
from ksql_lake_tests.ksqldb.framing import Case, framing_cases, read, split

CASES = framing_cases()
BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_framing_case_has_its_stated_outcome_and_rows(case: Case) -> None:
    """Each recorded body is read as what it is, with every row counted."""
    reading = read([case.body], kind=case.kind, version=case.version)
    assert (reading.outcome, reading.rows) == (case.outcome, case.rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_byte_by_byte_reads_the_same(case: Case) -> None:
    """A body that arrives in single bytes gives the events it gives in one piece."""
    whole = read([case.body], kind=case.kind, version=case.version)
    bytewise = read(split(case.body, range(len(case.body))), kind=case.kind, version=case.version)
    assert bytewise == whole


@given(st.sampled_from(CASES), st.lists(st.integers(0, 2000), max_size=12))
def test_chunk_boundaries_never_matter(case: Case, cuts: list[int]) -> None:
    """However a body is cut into chunks, its events, rows and outcome are the same."""
    whole = read([case.body], kind=case.kind, version=case.version)
    pieces = read(split(case.body, cuts), kind=case.kind, version=case.version)
    assert pieces == whole


@given(st.sampled_from([case for case in CASES if case.outcome.proven]), st.data())
def test_no_true_prefix_of_a_complete_answer_is_complete(case: Case, data: st.DataObject) -> None:
    """An answer cut before its proof is never taken for a whole one, even if the body ended cleanly."""
    body = case.body.rstrip()
    # The final message itself is the proof; only the bracket after it may be missing.
    proof = len(body) if case.kind is QueryKind.PULL_TABLE or "0.24" in case.name else len(body) - 1
    end = data.draw(st.integers(0, proof - 1))
    reading = read([body[:end]], kind=case.kind, version=case.version)
    assert not reading.outcome.proven
    assert reading.rows <= case.rows


def test_a_bracket_alone_ends_a_stream_pull_only_on_servers_that_know_no_better() -> None:
    """The same bytes are complete from 0.24 and incomplete from 0.25 on, or from a server we cannot place."""
    case = BY_NAME["stream pull 0.24 no final"]
    outcomes = {
        version: read([case.body], kind=case.kind, version=version).outcome
        for version in ("0.22.1", "0.24.0", "7.1.3", "0.25.0", "7.2.0", "7.5.1", "8.5.0-0", "who knows")
    }
    complete = {version for version, outcome in outcomes.items() if outcome is Outcome.COMPLETE}
    assert complete == {"0.22.1", "0.24.0", "7.1.3"}
    assert {outcomes[version] for version in outcomes.keys() - complete} == {Outcome.INCOMPLETE}
