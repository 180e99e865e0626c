"""A bounded fuzzing run, and what fuzzing or thinking like an attacker has found, each as a test of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest

from ksql_lake.errors import CorruptLakeError, FeedError, KsqlLakeError, ProtocolError, StatementError
from ksql_lake.feeds.document import MOST_BYTES
from ksql_lake.feeds.validation import MOST_PROBLEMS, parse_feed
from ksql_lake.ksqldb import QueryKind
from ksql_lake.ksqldb.inventory import read_description
from ksql_lake.ksqldb.refusals import refusal
from ksql_lake.ksqldb.version import parse_version
from ksql_lake.ksqldb.wire.messages import ENTITIES, UNREADABLE
from ksql_lake.ksqldb.wire.row_parser import RowsParser
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.derived_files import decode_checkpoint, encode_checkpoint
from ksql_lake.lake.commit.manifest import FileEntry, Manifest, decode_manifest
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.doctor.repair import repair
from ksql_lake.lake.layout import FeedLayout, attempt_parts, manifest_sequence, partition_of, version_number
from ksql_lake_tests.fuzzing import answers, files
from ksql_lake_tests.fuzzing.engine import Figures, Target, fuzz, try_one
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed

TARGETS = [*answers.targets(), *files.targets()]
FEED = {"name": "orders", "kind": "stream", "source": "ORDERS", "start_date": "2025-01-01"}
ARABIC_ZERO = "\N{ARABIC-INDIC DIGIT ZERO}"
HEADER = b'[{"header":{"queryId":"q","schema":"`A` BIGINT"}},\n'


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_input_ends_in_an_answer_or_in_an_error_of_ours(target: Target) -> None:
    """A short run of each target finds nothing; a long one is `python -m ksql_lake_tests.fuzzing`."""
    figures = fuzz(target, examples=150, seed=7)

    assert figures.examples >= 20
    assert list(figures.finds.values()) == []


def test_the_engine_notices_what_it_is_there_for() -> None:
    """An exception that is not ours, and a text that no screen holds, are finds; an error of ours is none."""

    def run(data: bytes) -> None:
        if data == b"crash":
            raise KeyError("x")
        error = KsqlLakeError("refused")
        error.message = error.hint = "x" * (30_000 if data == b"long" else 1)
        raise error

    figures = Figures("toy")
    target = Target("toy", [], run)
    for data in (b"crash", b"long", b"fine"):
        try_one(target, data, figures)

    assert [find.data for find in figures.finds.values()] == [b"crash", b"long"]
    assert (figures.examples, figures.refused) == (3, 2)


@pytest.mark.parametrize("depth", [2_000, 100_000])
def test_nesting_without_end_is_refused_wherever_json_is_read(depth: int) -> None:
    """A line, an entity, a manifest and a checkpoint that nest too deep are errors, not a RecursionError."""
    nest = b"[" * depth + b"]" * depth
    parser = RowsParser(QueryKind.PULL_STREAM)
    parser.feed(HEADER)
    with pytest.raises(ProtocolError):
        parser.feed(b'{"row":{"columns":' + nest + b'},"x":1}\n')
    with pytest.raises((ProtocolError, *UNREADABLE)):
        read_description(ENTITIES.decode(b'[{"sourceDescription":' + nest + b"}]"))
    with pytest.raises(CorruptLakeError):
        decode_manifest(b'{"digest":"0","manifest":' + nest + b"}", path="1.json")
    assert decode_checkpoint(b'{"digest":"0","state":' + nest + b"}", "stream") is None
    assert "400" in str(refusal(400, b'{"message":' + nest + b"}"))


def test_a_version_of_thousands_of_digits_is_no_version() -> None:
    """Python refuses to convert them; such a server counts as the newest."""
    assert parse_version(f"0.{'9' * 5000}").release is None
    assert parse_version("0.29.0").release == (0, 29)


def test_a_servers_words_cannot_command_a_terminal_or_fill_it() -> None:
    """Control characters and endless texts of a server are shown escaped and cut."""
    text = "\x1b[2J\x07\u202eevil" + "x" * 1_000_000
    error = refusal(400, json.dumps({"error_code": 40001, "message": text}).encode())

    assert type(error) is StatementError
    assert "\x1b" not in str(error)
    assert "\\x1b[2J\\x07\\u202eevil" in str(error)
    assert len(str(error)) < 10_000


def test_a_title_without_end_takes_no_time() -> None:
    """A page of opening tags was searched once per tag."""
    assert "<title>" in str(refusal(502, b"<title>" * 300_000))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"columns": ["c"] * 90_000}, "columns: 'c' is named 90000 times"),
        ({f"key{number}": 1 for number in range(50_000)}, "key0: is not a key of a stream feed"),
        (
            {
                "columns": [f"column_{number}" for number in range(10_000)],
                "rename": {f"colunm_{number}": f"d{number}" for number in range(10_000)},
            },
            "rename: 'colunm_0' is not among `columns`. Did you mean 'column_0'",
        ),
        ({"columns": ["A"], "checks": {"not_null": ["x" * 400_000, "y" * 400_000]}}, "checks.not_null: 'xxx"),
        ({"tags": {"a": "b\n"}}, "must use at most 63 letters"),
        ({"owners": ["team:sales\n"]}, "must be an e-mail address or 'team:name'"),
        ({"description": "x" * MOST_BYTES}, "the file has more than 1,000,000 bytes"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:20],
)
def test_a_feed_file_of_thousands_of_mistakes_is_refused_at_once(keys: dict[str, object], problem: str) -> None:
    """What grew with the square of the mistakes, or slipped through with a line break, is a short error."""
    with pytest.raises(FeedError) as caught:
        parse_feed(json.dumps({**FEED, **keys}).encode())

    assert problem in str(caught.value)
    assert len(caught.value.problems) <= MOST_PROBLEMS + 1


def test_a_feed_of_ten_thousand_columns_is_a_feed() -> None:
    """Many columns are no mistake."""
    feed = parse_feed(json.dumps({**FEED, "columns": [f"C{number}" for number in range(10_000)]}).encode())
    assert feed.columns is not None
    assert len(feed.columns) == 10_000


def test_a_key_thousands_of_times_is_told_once() -> None:
    """Counting the keys of an object no longer takes the square of their number."""
    with pytest.raises(FeedError, match="a: this key occurs more than once"):
        parse_feed(b"{" + b",".join([b'"a":1'] * 150_000) + b"}")


@pytest.mark.parametrize("key", ["v٤", "v1٤", "v1\n", "v0", "v01", "1", "v" + "9" * 5000])
def test_a_version_is_written_one_way(key: str) -> None:
    """Digits of other scripts, a line break at the end and leading zeros name no version and no folder."""
    with pytest.raises(ValueError, match="is not a version key"):
        version_number(key)
    assert partition_of("table", f"version={key}") is None


@pytest.mark.parametrize(
    "folder", ["year=2025/month=01/day=06\n", "year=2025/month=01/day=٠٦", "year=2025/month=02/day=30"]
)
def test_a_day_is_written_one_way(folder: str) -> None:
    """The same for the folders of days, manifests and attempts."""
    assert partition_of("stream", folder) is None
    assert manifest_sequence(ARABIC_ZERO * 20 + ".json") is None
    assert attempt_parts(ARABIC_ZERO * 20 + "-abc") is None


def _outside(lake: Lake) -> Path:
    precious = Path(lake.root).parent / "precious.txt"
    precious.write_text("precious")
    return precious


UP = "../../../precious.txt"
CHANGES: list[Callable[[Manifest], Manifest]] = [
    lambda manifest: msgspec.structs.replace(manifest, removed=[UP]),
    lambda manifest: msgspec.structs.replace(manifest, removed=["/etc/hostname"]),
    lambda manifest: msgspec.structs.replace(manifest, attempt="../../../.."),
    lambda manifest: msgspec.structs.replace(manifest, added=[_entry(manifest, path=UP)]),
    lambda manifest: msgspec.structs.replace(manifest, added=[_entry(manifest, staged=UP)]),
    lambda manifest: msgspec.structs.replace(manifest, added=[_entry(manifest, staged="..")]),
    lambda manifest: msgspec.structs.replace(manifest, added=[_entry(manifest, partition="20250115")]),
    lambda manifest: msgspec.structs.replace(manifest, added=[_entry(manifest, records=-1)]),
    lambda manifest: msgspec.structs.replace(manifest, added=[_entry(manifest, min_event=10**30)]),
    lambda manifest: msgspec.structs.replace(manifest, added=[_entry(manifest, checksum="x")]),
    lambda manifest: msgspec.structs.replace(manifest, committed_at="2025-01-01T00:00:00"),
    lambda manifest: msgspec.structs.replace(manifest, committed_at="9999-12-31T23:59:59.999-23:59"),
    lambda manifest: msgspec.structs.replace(manifest, schema="`A` BIGNT"),
]


def _entry(manifest: Manifest, **changes: object) -> FileEntry:
    return msgspec.structs.replace(manifest.added[0], **changes)


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_with_a_fitting_digest_cannot_reach_outside_the_lake(
    tmp_path: Path, change: Callable[[Manifest], Manifest]
) -> None:
    """Whoever writes a manifest can compute its digest: names, numbers and times are looked at all the same."""
    lake, feed = Lake(tmp_path / "lake"), stream_feed()
    precious = _outside(lake)
    land_rows(lake, feed, [event(1)])
    one = lake.feed(feed)
    path = Path(lake.root, one.layout.manifest(1))
    path.write_bytes(change(one.log.manifest(1)).encode())
    Path(lake.root, one.layout.summary).unlink()
    one = Lake(lake.root).feed(feed)

    with pytest.raises(CorruptLakeError, match=r"this manifest cannot be (true|read)"):
        one.recover()
    list(repair(one.storage, examine(one.storage, one.layout), apply=True))

    assert precious.read_text() == "precious"
    assert examine(one.storage, one.layout).sound


def test_a_manifest_under_another_number_is_refused(tmp_path: Path) -> None:
    """A copy of an earlier manifest would fold its files in twice."""
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [event(1)])
    layout = FeedLayout("stream", feed.name)
    Path(lake.root, layout.manifest(2)).write_bytes(Path(lake.root, layout.manifest(1)).read_bytes())

    with pytest.raises(CorruptLakeError, match="this manifest holds commit 1 of a stream"):
        Lake(tmp_path).feed(feed).state()


def test_a_checkpoint_with_a_fitting_digest_and_a_path_outside_counts_as_none(tmp_path: Path) -> None:
    """Readers open what a checkpoint names: one that names something else is ignored."""
    lake, feed = Lake(tmp_path), stream_feed()
    land_rows(lake, feed, [event(1)])
    state = lake.feed(feed).state()
    day = state.partitions["2025-01-15"]
    assert decode_checkpoint(encode_checkpoint(state), "stream") == state

    files = (msgspec.structs.replace(day.files[0], path=UP),)
    partitions = {"2025-01-15": msgspec.structs.replace(day, files=files)}
    state = msgspec.structs.replace(state, partitions=partitions)

    assert decode_checkpoint(encode_checkpoint(state), "stream") is None


def test_days_are_days_in_every_year() -> None:
    """The names that are let through are those that the lake writes, without exception."""
    day = date(1970, 1, 1)
    while day.year < 1980:
        entry = FileEntry(
            path=f"year={day.year:04d}/month={day.month:02d}/day={day.day:02d}/data_20250101_000000_000001.parquet",
            partition=day.isoformat(),
            staged="a.tmp",
            records=1,
            bytes=1,
            sha256="",
        )
        manifest = Manifest(
            sequence=1,
            attempt="abc",
            feed="f",
            kind="stream",
            operation="append",
            committed_at="2025-01-01T00:00:00+00:00",
            added=[entry],
        )
        assert decode_manifest(manifest.encode(), path="").added == [entry]
        day += timedelta(days=17)
