"""Power failures: what was acknowledged is on disk, and what is on disk is whole, at every moment."""

from __future__ import annotations

import pytest

from ksql_lake_tests.lake.crashing.nursery import Nursery
from ksql_lake_tests.lake.crashing.outages import OUTAGES

WITHOUT = {
    "staged files are synced": "a later export",
    "published names are synced": "a merge",
    "another's manifest is synced": "an export after one killed at its commit",
    "another's publishing is synced": "an export after one killed while publishing",
}
"""For each guard an outage in which it is needed."""


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_power_failure_at_any_moment_breaks_no_promise(nursery: Nursery, outage: str) -> None:
    """After every system call, with what was not synced lost or partly lost, the lake keeps its promises."""
    result = nursery.do("cut_power", outage=outage)

    assert result["broken"] == []
    assert result["moments"] >= 20
    assert result["trees"] >= 10


@pytest.mark.parametrize("guard", WITHOUT)
def test_a_missing_sync_is_noticed(nursery: Nursery, guard: str) -> None:
    """Without any one of the syncs some moment is found at which a promise would be broken."""
    assert nursery.do("cut_power", outage=WITHOUT[guard], without=guard)["broken"]
