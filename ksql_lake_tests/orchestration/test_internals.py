"""What we use of Dagster and urllib3 that they do not publish: a change is noticed here first."""

from __future__ import annotations

import inspect
import io
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import requests
from dagster._core.instance import DynamicPartitionsStore
from dagster._core.storage.tags import WILL_RETRY_TAG

import ksql_lake
from ksql_lake.export.facts import ROWS
from ksql_lake.orchestration import internals
from ksql_lake_tests.fakes.scripted_server import LAST_CHUNK, Script, ScriptedServer, chunk, head
from ksql_lake_tests.orchestration.project import DAYS, ROWS_PER_DAY, Project, failure_text, materialized

RUN = dg.DagsterRun(job_name="streams")
MOMENTS = (
    *("2025-12-31T23:59:59", "2026-01-01T00:00", "2026-03-29T01:30", "2026-03-29T02:00:01"),
    *("2026-03-31T02:15", "2026-06-05T03:00:05", "2026-06-05T03:07"),
)


def test_the_inner_names_of_dagster_are_where_we_look() -> None:
    """With the installed Dagster nothing falls back."""
    reaction = internals.failed_tick(RUN, "not delivered", kind="AlertNotDelivered")

    assert (reaction.dagster_run, reaction.error.message) == (RUN, "not delivered")
    assert internals.WILL_RETRY_TAG == WILL_RETRY_TAG
    asked = inspect.signature(dg.DynamicPartitionsDefinition.has_partition_key).parameters
    assert list(asked) == ["self", "partition_key", "current_time", "dynamic_partitions_store"]
    assert hasattr(DynamicPartitionsStore, "has_dynamic_partition")
    assert None not in (internals.TICKS, internals.NEXT_TICKS, internals.TARGET)
    for context in (dg.OutputContext, dg.InputContext):
        assert isinstance(inspect.getattr_static(context, "step_context"), property)


def test_without_the_inner_names_the_tick_fails_all_the_same() -> None:
    """An alert that was not delivered is never taken for one that was."""
    with pytest.raises(dg.Failure, match="not delivered"):
        internals.failed_tick(RUN, "not delivered", kind="AlertNotDelivered", reaction=None)


def test_without_the_inner_names_a_check_is_recorded_all_the_same() -> None:
    """Dagster then decides by timestamps whether a result is of the newest materialization."""
    found = dg.AssetCheckEvaluation(asset_key=dg.AssetKey("payments"), check_name="volume", passed=True)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("payments"))

        assert internals.of_newest(found, instance, target=None) == found
        assert internals.of_newest(found, instance) != found


@pytest.mark.parametrize("cron", ["30 1 * * *", "@hourly", "*/7 3-5 * * mon,fri", "0 0 1 1 *", "15 2 31 * *"])
def test_a_cron_ticks_alike_with_and_without_the_inner_names(cron: str) -> None:
    """Whether a tick came in between is the same by Dagster's iterator and by its published partitions."""
    moments = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in MOMENTS]
    pairs = [(since, now) for now in moments for since in moments if since <= now]

    inner = [internals.has_ticked(cron, since, now) for since, now in pairs]

    assert inner == [internals.has_ticked(cron, since, now, ticks=None) for since, now in pairs]
    assert len(set(inner)) == 2


def test_a_dagster_that_does_not_show_the_step_still_lands(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the step a range lands the same rows, each day is recorded, the last one's facts with it."""
    monkeypatch.setattr(internals, "step_of", lambda _context: None)
    with dg.DagsterInstance.ephemeral() as instance:
        result = project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))

        assert result.success, failure_text(result)
        told = materialized(result, "payments")
    assert set(told) == set(DAYS)
    assert told[DAYS[-1]][ROWS] == ROWS_PER_DAY[DAYS[-1]]
    assert project.lake("payments").state().records == sum(ROWS_PER_DAY.values())


@pytest.mark.usefixtures("project")
def test_the_definitions_of_a_project_load_no_pandas() -> None:
    """A code location is there before pandas is: only a requested frame imports it."""
    code = (
        "import sys; from ksql_lake.orchestration import build_definitions\n"
        "from ksql_lake.settings import load_settings\n"
        "names = build_definitions(load_settings()).resolve_all_asset_keys()\n"
        "print(len(names), 'pandas' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assets, pandas = done.stdout.split()
    assert int(assets) >= 3
    assert pandas == "False"


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
