"""The four judges, each asked about one lake: what it calls, as a phrase; empty where all seems right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from ksql_lake.errors import KsqlLakeError
from ksql_lake.export import ExportPlan, ExportResult
from ksql_lake.export.certification import certify
from ksql_lake.export.checks import check_export
from ksql_lake.export.result import PartitionResult
from ksql_lake.feeds import Feeds
from ksql_lake.feeds.collection import FeedFile
from ksql_lake.lake.doctor import examine
from ksql_lake.report import MetadataAnalyzer, MetadataReader
from ksql_lake.report.feed_model import Status
from ksql_lake_tests.judges.lakes import Subject

IGNORED = frozenset({"volume", "min_records"})
"""Checks that judge how much came, which is not what was planted."""


def by_certify(made: Subject) -> str:
    """Every exported day against the source."""
    called = []
    with made.client() as client:
        for key in made.days.keys():  # noqa: SIM118 - not a mapping
            try:
                found = certify(made.feed, date.fromisoformat(key), client, made.lake)
            except KsqlLakeError as error:
                called.append(f"{key}: {error.message}")
                continue
            if not found.sound:
                told = (
                    "; ".join(hour.text for hour in found.differences) or found.questioned or "not as certified"
                )
                called.append(f"{key}: {told}")
    return " | ".join(called)


def by_doctor(made: Subject) -> str:
    """The lake against its own files."""
    found = examine(made.lake.storage, made.lake.feed(made.feed).layout)
    return " | ".join(f"{finding.problem}: {finding.detail}" for finding in found.findings)


def by_report(made: Subject) -> str:
    """The report's status, remarks and cross-check."""
    file = FeedFile(Path("feeds/active/s.json"), made.feed, archived=False)
    report = MetadataAnalyzer(MetadataReader(made.lake.root), Feeds((file,), ())).generate_report()
    (feed,) = report.feeds
    called = [item.what for item in report.cross_check.disagreements] + list(feed.remarks)
    if feed.status is not Status.HEALTHY:
        called.append(f"{feed.status}: {feed.reason}")
    return " | ".join(called)


def by_checks(made: Subject) -> str:
    """The asset checks, as an export of the last days that found nothing new evaluates them."""
    lake = made.lake.feed(made.feed)
    state = lake.state()
    parts = tuple(
        PartitionResult(
            partition=key,
            read=0,
            new=0,
            already_there=0,
            late=0,
            records=state.partitions[key].records if key in state.partitions else 0,
            bytes=0,
            files=(),
            path="",
        )
        for key in made.days.keys()  # noqa: SIM118 - not a mapping
    )
    plan = ExportPlan(made.feed, days=made.days)
    result = replace(
        ExportResult(made.feed, plan, datetime.now(UTC)),
        commit=state.sequence,
        partitions=parts,
        clock="server",
    )
    outcomes = check_export(result, lake)
    return " | ".join(one.says for one in outcomes if not one.passed and one.name not in IGNORED)


JUDGES: dict[str, Callable[[Subject], str]] = {
    "certify": by_certify,
    "doctor": by_doctor,
    "report": by_report,
    "checks": by_checks,
}


def verdict(made: Subject) -> list[str]:
    """Ask all judges; what they got wrong, one sentence each."""
    wrong = []
    for name, judge in JUDGES.items():
        called = judge(made)
        if name in made.expected and not called:
            wrong.append(f"{name} does not see it: {made.planted}")
        elif not made.planted and called:
            wrong.append(f"{name} calls a sound lake: {called}")
    return wrong
