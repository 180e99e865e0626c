"""Targets that read files: feed files, and every file a lake keeps beside its Parquet.

The lake is real: one file of it is replaced by hostile bytes, mostly with a digest that fits them, and then
everything that opens a lake opens it. Nothing outside the lake's folder may change, whatever the file says.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from random import Random

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import KsqlLakeError
from ksql_lake.export import plan_export
from ksql_lake.export.topology import KEY, Topology, kept_topology
from ksql_lake.feeds import Feeds
from ksql_lake.feeds.collection import FeedFile
from ksql_lake.feeds.document import parse_document
from ksql_lake.feeds.validation import parse_feed
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.lake.commit.manifest import decode_manifest
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.doctor.repair import repair
from ksql_lake.report import MetadataAnalyzer, MetadataReader
from ksql_lake_tests.fuzzing.engine import Target
from ksql_lake_tests.fuzzing.mutation import mutated, mutated_json
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed

STREAM = {
    "name": "orders",
    "kind": "stream",
    "source": "ORDERS",
    "description": "all of them",
    "start_date": "2025-01-01",
    "timezone": "Europe/Berlin",
    "event_time": "AT",
    "columns": ["ID", "AT", "year_"],
    "rename": {"year_": "jahr"},
    "identity": {"by": "key", "columns": ["ID"]},
    "lookback_days": 2,
    "compression": "zstd:3",
    "on_schema_change": "freeze",
    "schedule": "0 * * * *",
    "checks": {"min_records": 1, "max_age_hours": 26, "not_null": ["ID"], "unique": ["ID"]},
    "owners": ["team:sales", "a@example.org"],
    "tags": {"domain": "sales"},
}
TABLE = {"name": "users", "kind": "table", "source": "USERS", "retention": 3, "min_ratio_to_previous": 0.4}
NOW = datetime(2025, 2, 2, tzinfo=UTC)


def _feed(data: bytes) -> None:
    feed = parse_feed(data, file_name="orders.json")
    document = parse_document(data).with_key("enabled", value=False, after=("name", "source"))
    if parse_feed(document.data, file_name="orders.json") != feed.model_copy(update={"enabled": False}):
        raise AssertionError("a changed key changed more than itself")


@cache
def _lake_files() -> dict[str, bytes]:
    """A small lake with a merged day, several versions, a checkpoint, a failure and a kept topology."""
    with tempfile.TemporaryDirectory(prefix="ksql-lake-fuzz-") as folder:
        lake, stream, table = Lake(folder), stream_feed(), table_feed(retention=2)
        for round_ in range(3):
            land_rows(lake, stream, [event(number, day=number % 2) for number in range(4 * round_ + 4)])
            land_rows(lake, table, [{"ID": number, "NAME": "n"} for number in range(3 + round_)])
        lake.feed(table).apply_retention()
        list(lake.feed(stream).compact(now=NOW))
        for _ in range(28):
            land_rows(lake, stream, [event(1)])
        lake.feed(stream).record_failure(KsqlLakeError("it failed", hint="look", feed="events"))
        lake.storage.replace(KEY, msgspec.json.encode(Topology("http://x", {})), temporary="metadata/.t.tmp")
        root = Path(folder)
        return {
            path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
        }


def _replaceable() -> list[bytes]:
    """Each file worth replacing, its path on a line before its bytes."""
    files = _lake_files()
    names = [name for name in files if name.endswith(".json")]
    commits = [name for name in names if "/commits/" in name]
    chosen = [name for name in names if name not in commits] + commits[:5] + commits[-4:]
    parquet = [name for name in files if name.endswith(".parquet")][:3]
    return [name.encode() + b"\n" + files[name] for name in (*chosen, *parquet)]


def _mutated_file(data: bytes, random: Random) -> bytes:
    name, _, content = data.partition(b"\n")
    if name.endswith(b".parquet"):
        changed = _other_footer(content, random) if random.random() < 0.6 else mutated(content, random)
    elif b"/commits/" in name and random.random() < 0.8:
        changed = _signed_manifest(
            mutated_json(msgspec.json.encode(msgspec.json.decode(content)["manifest"]), random)
        )
    elif name.endswith(b"checkpoint.json") and random.random() < 0.8:
        state = mutated_json(msgspec.json.encode(msgspec.json.decode(content)["state"]), random)
        changed = b'{"digest":"' + hashlib.sha256(state).hexdigest().encode() + b'","state":' + state + b"}"
    else:
        changed = mutated_json(content, random)
    return name + b"\n" + changed


def _signed_manifest(body: bytes) -> bytes:
    return b'{"digest": "' + hashlib.sha256(body).hexdigest().encode() + b'",\n"manifest": ' + body + b"}\n"


def _other_footer(content: bytes, random: Random) -> bytes:
    """The same rows, and a footer whose facts are hostile."""
    table = pq.read_table(pa.BufferReader(content))
    facts = dict(pq.ParquetFile(pa.BufferReader(content)).metadata.metadata or {})
    ours = [key for key in facts if key.startswith(b"ksql_lake.")]
    for key in random.sample(ours, min(2, len(ours))):
        facts[key] = mutated_json(facts[key], random, rounds=1)[:5000]
    if random.random() < 0.3:
        facts[b"ksql_lake.replaces"] = b'["../../../../outside/precious.txt"]'
    sink = pa.BufferOutputStream()
    facts.pop(b"ARROW:schema", None)
    pq.write_table(table.replace_schema_metadata(facts), sink)
    return bytes(sink.getvalue())


def _lake(data: bytes) -> None:
    name, _, content = data.partition(b"\n")
    with tempfile.TemporaryDirectory(prefix="ksql-lake-fuzz-") as folder:
        root, precious = Path(folder, "in", "the", "lake"), Path(folder, "outside", "precious.txt")
        precious.parent.mkdir()
        precious.write_text("precious")
        for key, other in _lake_files().items():
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(other)
        target = root / name.decode()
        target.write_bytes(content)
        if name.endswith(b".parquet"):
            shutil.rmtree(root / "metadata" / "streams", ignore_errors=True)
        try:
            _open_everything(root)
        finally:
            outside = sorted(
                str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()
            )
            strangers = [path for path in outside if not path.startswith("in/the/lake/")]
            if strangers != ["outside/precious.txt"] or precious.read_text() != "precious":
                raise AssertionError(f"touched outside the lake: {strangers}")


def _repaired(lake: FeedLake) -> None:
    list(repair(lake.storage, examine(lake.storage, lake.layout), apply=True))


_STEPS: tuple[Callable[[FeedLake], object], ...] = (
    lambda lake: examine(lake.storage, lake.layout),
    FeedLake.dataset,
    FeedLake.failures,
    FeedLake.recover,
    _repaired,
)


def _open_everything(root: Path) -> None:
    """All that opens a lake; the first error of ours is the outcome, the others are looked at all the same."""
    lake, stream, table = Lake(root), stream_feed(), table_feed(retention=1)
    feeds = (stream, table)
    files = Feeds(tuple(FeedFile(Path(f"{feed.name}.json"), feed, archived=False) for feed in feeds), ())
    steps: list[Callable[[], object]] = [
        lambda: msgspec.json.encode(MetadataAnalyzer(MetadataReader(root), files, now=NOW).generate_report()),
        lambda: kept_topology(lake),
        *(partial(plan_export, feed, lake) for feed in feeds),
        *(partial(step, lake.feed(feed)) for feed in feeds for step in _STEPS),
        lambda: list(lake.feed(stream).compact(now=NOW)),
        lambda: land_rows(lake, stream, [event(number) for number in range(6)]),
        lambda: land_rows(lake, table, [{"ID": 1, "NAME": "n"}]),
        lambda: lake.feed(table).apply_retention(),
    ]
    errors: list[KsqlLakeError] = []
    for step in steps:
        try:
            step()
        except KsqlLakeError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _manifest(data: bytes) -> None:
    decode_manifest(data, path="commits/1.json")


def _mutated_manifest(data: bytes, random: Random) -> bytes:
    if random.random() < 0.2:
        return mutated(data, random)
    return _signed_manifest(mutated_json(msgspec.json.encode(msgspec.json.decode(data)["manifest"]), random))


def targets() -> list[Target]:
    """Everything that reads files."""
    files = _lake_files()
    commits = [content for name, content in files.items() if "/commits/" in name]
    return [
        Target(
            "feeds",
            [msgspec.json.format(msgspec.json.encode(STREAM), indent=2), msgspec.json.encode(TABLE)],
            _feed,
            mutated_json,
        ),
        Target("manifests", commits[:6], _manifest, _mutated_manifest),
        Target("lake", _replaceable(), _lake, _mutated_file, cost=100),
    ]
