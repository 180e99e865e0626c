"""What Dagster sees of the sample project, as text for people; `python -m` it to rewrite the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from ksql_lake.orchestration import build_definitions
from ksql_lake.settings import load_settings

REPOSITORY = Path(__file__).parents[2]
KEPT = Path(__file__).with_name("sample_definitions.txt")


def sample_definitions(lake: Path) -> str:
    """Render keys, partitions, checks, jobs, schedules and sensors of the sample feeds; no lake is needed."""
    defs = build_definitions(load_settings(feeds_root=REPOSITORY / "feeds", lake_root=str(lake)))
    repository = defs.get_repository_def()
    return "\n".join([*_assets(defs), *_checks(repository), *_jobs(repository), *_ticking(repository), ""])


def _assets(defs: dg.Definitions) -> Iterator[str]:
    yield "ASSETS: group, key, partitions, upstream"
    specs = sorted(defs.resolve_all_asset_specs(), key=lambda spec: (spec.group_name, spec.key))
    for spec in specs:
        upstream = ", ".join(dep.asset_key.to_user_string() for dep in spec.deps)
        partitions = f" | {spec.partitions_def}" if spec.partitions_def else ""
        above = f" | < {upstream}" if upstream else ""
        yield f"  {spec.group_name} {spec.key.to_user_string()}{partitions}{above}"


def _checks(repository: dg.RepositoryDefinition) -> Iterator[str]:
    yield "CHECKS: asset: names; ! blocks what is below"
    graph = repository.asset_graph
    found: dict[str, list[str]] = {}
    for key in sorted(graph.asset_check_keys, key=lambda key: key.asset_key):
        mark = "!" if graph.get_check_spec(key).blocking else ""
        found.setdefault(key.asset_key.to_user_string(), []).append(f"{key.name}{mark}")
    for asset, names in found.items():
        yield f"  {asset}: {', '.join(sorted(names))}"


def _jobs(repository: dg.RepositoryDefinition) -> Iterator[str]:
    yield "JOBS: name, priority"
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            yield f"  {job.name} {job.tags.get('dagster/priority', '')}".rstrip()


def _ticking(repository: dg.RepositoryDefinition) -> Iterator[str]:
    yield "SCHEDULES: name, cron, time zone, at first"
    for schedule in sorted(repository.schedule_defs, key=lambda each: each.name):
        first = schedule.default_status.value
        yield f"  {schedule.name} | {schedule.cron_schedule} | {schedule.execution_timezone} | {first}"
    yield "SENSORS: name, seconds, at first"
    for sensor in sorted(repository.sensor_defs, key=lambda each: each.name):
        yield f"  {sensor.name} | {sensor.minimum_interval_seconds} | {sensor.default_status.value}"


if __name__ == "__main__":
    KEPT.write_text(sample_definitions(Path("no_such_lake")), encoding="utf-8")
