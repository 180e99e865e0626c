"""What we use of Dagster and urllib3 that they do not publish: a change is noticed here first."""

from __future__ import annotations

import inspect
import io
from pathlib import Path

import dagster as dg
import pytest
import requests
from dagster._core.instance import DynamicPartitionsStore
from dagster._core.storage.tags import WILL_RETRY_TAG

import ksql_lake
from ksql_lake.orchestration import internals
from ksql_lake_tests.fakes.scripted_server import LAST_CHUNK, Script, ScriptedServer, chunk, head

RUN = dg.DagsterRun(job_name="streams")


def test_the_inner_names_of_dagster_are_where_we_look() -> None:
    """With the installed Dagster nothing falls back."""
    reaction = internals.failed_tick(RUN, "not delivered", kind="AlertNotDelivered")

    assert (reaction.dagster_run, reaction.error.message) == (RUN, "not delivered")
    assert internals.WILL_RETRY_TAG == WILL_RETRY_TAG
    asked = inspect.signature(dg.DynamicPartitionsDefinition.has_partition_key).parameters
    assert list(asked) == ["self", "partition_key", "current_time", "dynamic_partitions_store"]
    assert hasattr(DynamicPartitionsStore, "has_dynamic_partition")
    assert isinstance(inspect.getattr_static(dg.OutputContext, "step_context"), property)


def test_without_the_inner_names_the_tick_fails_all_the_same() -> None:
    """An alert that was not delivered is never taken for one that was."""
    with pytest.raises(dg.Failure, match="not delivered"):
        internals.failed_tick(RUN, "not delivered", kind="AlertNotDelivered", reaction=None)


def test_the_fast_way_to_a_body_is_still_there() -> None:
    """urllib3's response leads to the socket's buffered reader; without it bodies go the slower, public way."""
    with ScriptedServer() as server:
        start = head(Transfer_Encoding="chunked", Content_Type="text/plain")
        server.script("/", Script([start, chunk(b"x"), LAST_CHUNK]))
        with requests.get(server.url, stream=True, timeout=10) as response:
            inner = getattr(response.raw, "_fp", None)
            assert isinstance(getattr(inner, "fp", None), io.BufferedReader)


def test_inner_names_stand_in_one_place_for_each_library() -> None:
    """No other module of ours imports what Dagster does not publish."""
    package = Path(ksql_lake.__file__).parent
    users = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(
            line.lstrip().startswith(("from dagster._", "import dagster._", "from dagster_shared"))
            for line in path.read_text(encoding="utf-8").splitlines()
        )
    }
    assert users == {"orchestration/internals.py"}
