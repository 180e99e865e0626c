"""Materialising feeds: what lands, what Dagster records, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.export.facts import ROWS
from ksql_lake_tests.orchestration.project import (
    DAYS,
    ROWS_PER_DAY,
    Project,
    failure_text,
    materialized,
    write_source_files,
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that forgets everything."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_a_range_of_days_is_one_query_and_one_commit(project: Project, instance: dg.DagsterInstance) -> None:
    """Five days in one run read the source once, and each day reports its own rows."""
    result = project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))

    assert result.success, failure_text(result)
    told = materialized(result, "payments")
    assert {day: facts[ROWS] for day, facts in told.items()} == ROWS_PER_DAY
    assert {facts["commit"] for facts in told.values()} == {"1"}
    assert len({facts["query_id"] for facts in told.values()}) == 1
    assert project.lake("payments").state().records == sum(ROWS_PER_DAY.values())


def test_a_materialisation_says_what_a_person_asks(project: Project, instance: dg.DagsterInstance) -> None:
    """Row counts, path, query, and the columns with the types ksqlDB declares."""
    result = project.materialize(instance, "payments", partition="2025-01-07")

    (facts,) = materialized(result, "payments").values()
    assert (facts["read_rows"], facts["new_rows"], facts["already_there_rows"], facts["late_rows"]) == (
        2,
        2,
        0,
        0,
    )
    assert (facts[ROWS], facts["dagster/row_count"]) == (2, 2)
    assert facts["dagster/size_bytes"] == facts["bytes"]
    assert facts["dagster/uri"].endswith("data_lake/streams/payments/year=2025/month=01/day=07")
    assert facts["query"].startswith("SELECT ROWTIME, `ID`")
    assert facts["bytes"] > 0
    assert facts["export_seconds"] > 0
    columns = [
        (column.name, column.type, column.description) for column in facts["dagster/column_schema"].columns
    ]
    assert columns == [
        ("ROWTIME", "timestamp[ms, tz=UTC]", "`TIMESTAMP`"),
        ("ID", "int64", "`BIGINT`"),
        ("AMOUNT", "decimal128(10, 2)", "`DECIMAL(10, 2)`"),
        ("NOTE", "string", "`STRING`"),
    ]


def test_columns_say_what_they_mean_and_what_they_were(project: Project, instance: dg.DagsterInstance) -> None:
    """The feed file's words stand beside the type, and each column has its source's column above it."""
    project.write_feed(
        "payments",
        kind="stream",
        source="PAYMENTS",
        start_date="2025-01-06",
        rename={"NOTE": "remark"},
        descriptions={"NOTE": "What the customer wrote.", "AMOUNT": "In euros."},
    )

    result = project.materialize(instance, "payments", partition="2025-01-07")

    (facts,) = materialized(result, "payments").values()
    described = {column.name: column.description for column in facts["dagster/column_schema"].columns}
    assert described["remark"] == "What the customer wrote. (`STRING`)"
    assert described["AMOUNT"] == "In euros. (`DECIMAL(10, 2)`)"
    above = facts["dagster/column_lineage"].deps_by_column
    assert {name: [(dep.asset_key.path, dep.column_name) for dep in deps] for name, deps in above.items()} == {
        "ID": [(["ksqldb", "PAYMENTS"], "ID")],
        "AMOUNT": [(["ksqldb", "PAYMENTS"], "AMOUNT")],
        "remark": [(["ksqldb", "PAYMENTS"], "NOTE")],
    }


def test_a_range_says_once_what_is_true_of_all(project: Project, instance: dg.DagsterInstance) -> None:
    """Query, columns, sample and totals are on the newest day; every other day stays small."""
    result = project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))

    told = materialized(result, "payments")
    assert told[DAYS[-1]]["dagster/row_count"] == sum(ROWS_PER_DAY.values())
    assert {"query", "sample", "duckdb", "dagster/column_schema", "dagster/column_lineage"} <= set(
        told[DAYS[-1]]
    )
    for day in DAYS[:-1]:
        assert len(repr(told[day])) < 700
        assert not {"query", "sample", "duckdb", "dagster/column_schema"} & set(told[day])


def test_materialising_a_day_again_adds_nothing(project: Project, instance: dg.DagsterInstance) -> None:
    """The second run of a day finds every row already there."""
    project.materialize(instance, "payments", partition="2025-01-06")

    again = project.materialize(instance, "payments", partition="2025-01-06")

    facts = materialized(again, "payments")["2025-01-06"]
    assert (facts["new_rows"], facts["already_there_rows"], facts[ROWS]) == (0, 3, 3)


def test_a_day_without_rows_is_materialised_with_none(project: Project, instance: dg.DagsterInstance) -> None:
    """An empty day is an answer: it turns green and says 0."""
    result = project.materialize(instance, "payments", partition="2025-01-08")

    assert result.success
    assert materialized(result, "payments")["2025-01-08"][ROWS] == 0


def test_days_before_a_feeds_own_start_are_empty(project: Project, instance: dg.DagsterInstance) -> None:
    """In a shared range the feed that starts later has nothing to read before its start, and says so."""
    result = project.materialize(instance, "payments", "refunds", days=("2025-01-06", "2025-01-07"))

    assert result.success, failure_text(result)
    told = materialized(result, "refunds")
    assert {day: facts[ROWS] for day, facts in told.items()} == {DAYS[0]: 0, DAYS[1]: 0}
    assert "before start_date 2025-01-09" in told[DAYS[0]]["note"]
    assert sum(facts["new_rows"] for facts in materialized(result, "payments").values()) == 5


def test_a_run_without_partitions_does_what_is_due(project: Project, instance: dg.DagsterInstance) -> None:
    """It reads from the start date to now; every closed day is materialised, the running day only observed."""
    result = project.materialize(instance, "payments")

    assert result.success, failure_text(result)
    told = materialized(result, "payments")
    assert {day: facts[ROWS] for day, facts in told.items() if day and facts[ROWS]} == {
        day: count for day, count in ROWS_PER_DAY.items() if count
    }
    last_day = max(day for day in project.lake("payments").state().looked)
    assert last_day not in told
    observed = instance.fetch_observations(dg.AssetKey(["payments"]), limit=1).records
    assert [record.partition_key for record in observed] == [last_day]
    closed = [day for day in project.lake("payments").state().looked if day != last_day]
    assert instance.get_materialized_partitions(dg.AssetKey(["payments"])) == set(closed)
    # Dagster shows the latest materialisation on the asset's page, which is that of the run as a whole.
    page = told[None]
    assert page["dagster/row_count"] == sum(ROWS_PER_DAY.values())
    assert "The first rows of 2025-01-10" in page["sample"]
    assert (page["read_rows"], page["new_rows"], page[ROWS]) == (8, 8, 8)
    assert (page["already_there_rows"], page["late_rows"]) == (0, 0)
    assert page["bytes"] == page["dagster/size_bytes"]


def test_a_table_gets_its_next_version_and_opens_the_one_after(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """v1 works although the instance never heard of it; v2 is open then, and made when it is asked for."""
    result = project.materialize(instance, "totals", partition="v1")

    assert result.success, failure_text(result)
    assert materialized(result, "totals")["v1"][ROWS] == 4
    assert instance.get_dynamic_partitions("totals_versions") == ["v1"]
    assert project.materialize(instance, "totals", partition="v2").success
    assert instance.get_dynamic_partitions("totals_versions") == ["v1", "v2"]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v1", "v1 exists already"),
        ("v3", "v3 is not open yet"),
        ("latest", "'latest' is not a version key such as v1"),
    ],
)
def test_a_version_that_is_not_open_is_refused(
    project: Project, instance: dg.DagsterInstance, version: str, said: str
) -> None:
    """History is never overwritten with today's data; the message says why and what to take instead."""
    project.materialize(instance, "totals", partition="v1")
    instance.add_dynamic_partitions("totals_versions", ["v3", "latest"])

    result = project.materialize(instance, "totals", partition=version)

    assert not result.success
    assert said in failure_text(result)
    assert project.lake("totals").state().partition_keys() == ["v1"]


def test_nine_exports_leave_versions_three_to_nine(project: Project, instance: dg.DagsterInstance) -> None:
    """Retention removes a version from the disk and from Dagster together."""
    for number in range(1, 10):
        assert project.materialize(instance, "totals", partition=f"v{number}").success

    kept = [f"v{number}" for number in range(3, 10)]
    folder = project.folder / "data_lake" / "tables" / "totals"
    assert sorted(path.name for path in folder.iterdir()) == [f"version={key}" for key in kept]
    assert project.lake("totals").state().partition_keys() == kept
    assert instance.get_dynamic_partitions("totals_versions") == kept


def test_a_table_run_without_a_version_takes_the_open_one(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """Schedules and `dagster job execute` need to know no version."""
    first = project.materialize(instance, "totals")
    second = project.materialize(instance, "totals")

    assert [*materialized(first, "totals"), *materialized(second, "totals")] == ["v1", None, "v2", None]
    assert instance.get_dynamic_partitions("totals_versions") == ["v1", "v2"]


def test_the_sensor_brings_the_version_keys_back_in_step(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """In a new or confused instance the committed versions are offered, and the open one that was asked for."""
    project.materialize(instance, "totals", partition="v1")
    instance.delete_dynamic_partition("totals_versions", "v1")
    instance.add_dynamic_partitions("totals_versions", ["v2", "v7", "nonsense"])
    sensor = project.definitions().get_repository_def().get_sensor_def("lake_in_step")

    sensor(dg.build_sensor_context(instance=instance))

    assert sorted(instance.get_dynamic_partitions("totals_versions")) == ["v1", "v2"]


def test_a_new_table_offers_its_first_version(project: Project, instance: dg.DagsterInstance) -> None:
    """Before the first export v1 is there to be clicked on, and it alone."""
    sensor = project.definitions().get_repository_def().get_sensor_def("lake_in_step")

    sensor(dg.build_sensor_context(instance=instance))

    assert instance.get_dynamic_partitions("totals_versions") == ["v1"]


def test_an_error_that_needs_a_person_stops_at_once(project: Project, instance: dg.DagsterInstance) -> None:
    """A source the server does not have fails the step without another attempt, with the hint beside it."""
    project.write_feed("missing", kind="stream", source="MISSING", start_date="2025-01-06")

    result = project.materialize(instance, "missing", "payments", partition="2025-01-06")

    assert not result.success
    assert "feed missing" in failure_text(result)
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert materialized(result, "payments")["2025-01-06"]["new_rows"] == 3


def test_an_unreachable_server_is_tried_again_and_then_named(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may pass by itself gets further attempts; the last one says which server it was."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")

    result = project.materialize(instance, "payments", partition="2025-01-06")

    assert not result.success
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 2
    assert "http://127.0.0.1:9" in failure_text(result)
    assert not (project.folder / "data_lake" / "streams").exists()


def test_a_response_that_breaks_off_is_read_again(
    project: Project, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut response lands nothing; the step's next attempt lands everything, once."""
    sources = tmp_path / "sources"
    sources.mkdir()
    write_source_files(sources)
    with DevServer.start(data=sources, arguments=["--fault", "cut_row:after_rows=1,times=1"]) as faulty:
        monkeypatch.setenv("KSQLDB_URL", faulty.url)
        result = project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1]))

    assert result.success, failure_text(result)
    assert len([event for event in result.all_events if event.is_step_up_for_retry]) == 1
    assert project.lake("payments").state().records == sum(ROWS_PER_DAY.values())


def test_a_range_that_breaks_keeps_the_days_that_landed_before(
    project: Project,
    instance: dg.DagsterInstance,
    server: DevServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A range is one scan, whole or not at all: what broke adds nothing, takes nothing, hurts no other feed."""
    project.write_feed("others", kind="stream", source="OTHER_PAYMENTS", start_date="2025-01-06")
    project.materialize(instance, "payments", days=(DAYS[0], DAYS[1]))
    sources = tmp_path / "sources"
    sources.mkdir()
    write_source_files(sources)
    fault = "cut_row:after_rows=4,source=PAYMENTS"
    with DevServer.start(data=sources, arguments=["--fault", fault]) as faulty:
        monkeypatch.setenv("KSQLDB_URL", faulty.url)
        broken = project.materialize(instance, "payments", "others", days=(DAYS[0], DAYS[-1]))
    kept = project.lake("payments").state()

    assert not broken.success
    assert "payments" in failure_text(broken)
    assert {day: part.records for day, part in kept.partitions.items()} == {DAYS[0]: 3, DAYS[1]: 2}
    assert set(materialized(broken, "others")) == set(DAYS)
    assert materialized(broken, "payments") == {}
    known = instance.get_materialized_partitions(dg.AssetKey("payments"))
    assert known == {DAYS[0], DAYS[1]}

    monkeypatch.setenv("KSQLDB_URL", server.url)
    assert project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1])).success
    assert project.lake("payments").state().records == sum(ROWS_PER_DAY.values())


def test_a_day_before_the_start_says_what_the_lake_holds_of_it(
    project: Project, instance: dg.DagsterInstance
) -> None:
    """Its rows stay in the lake if the start is moved behind it, although the export reads nothing of it."""
    assert project.materialize(instance, "payments", days=(DAYS[0], DAYS[-1])).success
    project.write_feed("payments", kind="stream", source="PAYMENTS", start_date=DAYS[2])
    project.write_feed("refunds", kind="stream", source="REFUNDS", start_date=DAYS[0])

    told = materialized(project.materialize(instance, "payments", days=(DAYS[0], DAYS[3])), "payments")
    alone = materialized(project.materialize(instance, "payments", partition=DAYS[1]), "payments")

    assert {day: facts["partition_rows"] for day, facts in told.items()} == {
        day: ROWS_PER_DAY[day] for day in DAYS[:4]
    }
    assert told[DAYS[0]]["note"] == f"before start_date {DAYS[2]}, so nothing is read"
    assert "note" not in told[DAYS[3]]
    assert alone[DAYS[1]]["partition_rows"] == ROWS_PER_DAY[DAYS[1]]
