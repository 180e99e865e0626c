"""The cross-check: finds what differs, and nothing else."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ksql_lake.lake import Lake
from ksql_lake.report import MetadataReader
from ksql_lake.report.agreement import cross_check
from ksql_lake.report.lake_model import Disagreement
from ksql_lake_tests.lake.landing import land_rows, stream_feed, table_feed
from ksql_lake_tests.report.lakes import land_days, of_day, report_of

D15, D17 = date(2025, 1, 15), date(2025, 1, 17)
FEED = stream_feed(start_date="2025-01-15")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with three days of one file each."""
    made = Lake(tmp_path)
    rows = [row for offset in range(3) for row in of_day(D15 + timedelta(days=offset), 5)]
    land_days(made, FEED, rows, days=(D15, D17))
    return made


def found(root: Path) -> tuple[Disagreement, ...]:
    """What the report says does not fit."""
    return report_of(root, FEED).cross_check.disagreements


def first_file(root: Path) -> Path:
    """The file of the first day."""
    return min(root.rglob("*.parquet"))


def test_an_untouched_lake_agrees(tmp_path: Path, lake: Lake) -> None:
    """Nothing is found where nothing is wrong, and the report says how much was looked at."""
    check = report_of(Path(lake.root), FEED).cross_check

    assert (check.files, check.sampled, check.summaries, check.disagreements) == (3, 3, 1, ())
    assert tmp_path == Path(lake.root)


@pytest.mark.usefixtures("lake")
def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """A deleted file is named with the rows that are gone with it."""
    path = first_file(tmp_path)
    path.unlink()

    assert found(tmp_path) == (
        Disagreement(
            "events",
            path.relative_to(tmp_path).as_posix(),
            "the file does not exist; its manifest says 5 rows",
        ),
    )


@pytest.mark.usefixtures("lake")
def test_a_file_of_another_size(tmp_path: Path) -> None:
    """A file that grew or shrank is named with both sizes."""
    path = first_file(tmp_path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"x")

    assert [item.what for item in found(tmp_path)] == [
        f"the file has {size + 1:,} bytes, its manifest says {size:,}"
    ]


@pytest.mark.usefixtures("lake")
def test_a_footer_with_other_rows(tmp_path: Path) -> None:
    """A file of the right size with another number of rows is named with both counts."""
    path = first_file(tmp_path)
    size = path.stat().st_size
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"ID": range(7)}), other)
    content = other.read_bytes()
    tail = content[-(int.from_bytes(content[-8:-4], "little") + 8) :]
    path.write_bytes(content[:4] + b"\0" * (size - 4 - len(tail)) + tail)

    assert [item.what for item in found(tmp_path)] == ["the footer says 7 rows, the manifest 5"]


@pytest.mark.usefixtures("lake")
def test_a_footer_that_cannot_be_read(tmp_path: Path) -> None:
    """One damaged file is named, and the others are still checked."""
    path = first_file(tmp_path)
    path.write_bytes(b"\0" * path.stat().st_size)

    check = report_of(tmp_path, FEED).cross_check

    assert check.sampled == 3
    (only,) = check.disagreements
    assert only.path == path.relative_to(tmp_path).as_posix()
    assert only.what.startswith("the footer cannot be read: ")
    assert "\n" not in only.what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "it does not exist, or is no JSON; the next export writes it"),
        (b"{", "it does not exist, or is no JSON; the next export writes it"),
        (b"\xff\xfe\x00", "it does not exist, or is no JSON; the next export writes it"),
        (b"[]", "it is of commit None, the newest is 1; the next export rewrites it"),
        (b'{"commit": 9}', "it is of commit 9, the newest is 1; the next export rewrites it"),
        (b'{"commit": 1, "total_records": 4}', "it says 4 rows in no bytes, the manifests 15 in "),
    ],
)
@pytest.mark.usefixtures("lake")
def test_a_summary_that_was_changed(tmp_path: Path, content: bytes | None, what: str) -> None:
    """`_metadata.json` that is gone, torn, no text, or says other numbers is named; the report counts right."""
    land_rows(Lake(tmp_path), table_feed(), [{"ID": 1, "NAME": "a"}])
    path = tmp_path / "metadata/streams/events/_metadata.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    report = report_of(tmp_path, FEED, table_feed())

    (only,) = report.cross_check.disagreements
    assert (only.feed, only.path) == ("events", "metadata/streams/events/_metadata.json")
    assert only.what.startswith(what)
    assert report.cross_check.summaries == (1 if content in (None, b"{", b"\xff\xfe\x00") else 2)
    assert report.totals.records == 16


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_commit_that_was_not_published(tmp_path: Path) -> None:
    """Killed right after the commit: the manifest counts, and files and summary are said to lag behind."""

    def end(step: str) -> None:
        if step == "committed":
            raise Killed

    with pytest.raises(Killed):
        land_days(Lake(tmp_path, on_step=end), FEED, of_day(D15, 5), days=(D15, D15))

    report = report_of(tmp_path, FEED)

    assert report.feeds[0].records == 5
    assert [item.what.split(";")[0] for item in report.cross_check.disagreements] == [
        "the file does not exist",
        "it does not exist, or is no JSON",
    ]


def test_a_damaged_manifest_behind_a_checkpoint(tmp_path: Path) -> None:
    """A manifest that the state no longer needs is still read for the history, and its damage reported."""
    lake = Lake(tmp_path)
    for _ in range(33):
        land_days(lake, FEED, [], days=(D15, D17))
    path = tmp_path / lake.feed(FEED).layout.manifest(2)
    path.write_bytes(path.read_bytes().replace(b"SELECT", b"select"))

    report = report_of(tmp_path, FEED)

    assert [(item.path, item.what) for item in report.cross_check.disagreements] == [
        ("metadata/streams/events/commits", "commit 2: this manifest was changed after it was written")
    ]
    assert len(report.feeds[0].exports) == 32


def test_what_an_export_changed_meanwhile_is_no_disagreement(tmp_path: Path) -> None:
    """Retention that removes a file between reading the metadata and looking at the file is not damage."""
    lake, feed = Lake(tmp_path), table_feed(retention=1)
    for _ in range(2):
        land_rows(lake, feed, [{"ID": 1, "NAME": "a"}])
    reader = MetadataReader(tmp_path)
    metadata = reader.list_all_metadata()
    lake.feed(feed).apply_retention()

    check = cross_check(reader.storage, reader.connection, metadata).check

    assert (check.sampled, check.disagreements) == (2, ())


def test_the_sample_turns_until_every_file_was_looked_at(tmp_path: Path) -> None:
    """Each day looks at the newest file and at others; over the days every file has its turn."""
    days = 12
    rows = [row for offset in range(days) for row in of_day(D15 + timedelta(days=offset), 1)]
    land_days(Lake(tmp_path), FEED, rows, days=(D15, D15 + timedelta(days=days - 1)))
    reader = MetadataReader(tmp_path)
    metadata = reader.list_all_metadata()
    newest = max(tmp_path.rglob("*.parquet"))
    assert newest.parent.name == "day=26"
    newest.unlink()

    missed = [
        cross_check(reader.storage, reader.connection, metadata, per_feed=3, turn=turn).check
        for turn in range(4)
    ]

    assert all(len(check.disagreements) == 1 for check in missed), "the newest is always looked at"
    assert sum(check.sampled - 1 for check in missed) == days - 1
    assert cross_check(reader.storage, reader.connection, metadata, per_feed=0).check.sampled == 0


def test_an_empty_snapshot_agrees(tmp_path: Path) -> None:
    """A typed file without rows has no row groups, and still agrees with its manifest."""
    land_rows(Lake(tmp_path), table_feed(), [])

    check = report_of(tmp_path, table_feed()).cross_check

    assert (check.sampled, check.disagreements) == (1, ())
