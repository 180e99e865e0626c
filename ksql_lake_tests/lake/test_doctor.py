"""Doctor: everything that is wrong is named, everything that can be derived is repaired, nothing is deleted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ksql_lake.errors import ConflictError, LakeError
from ksql_lake.export import plan_export
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.commit_facts import facts_of
from ksql_lake.lake.commit.derived_files import encode_checkpoint
from ksql_lake.lake.doctor import Problem, Remedy, examine, feeds_in, repair
from ksql_lake.lake.doctor.committed_files import _SMALL
from ksql_lake.lake.doctor.examination import Examination
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake_tests.lake.landing import event, held_rows, land_rows, stream_feed, table_feed

STREAM = FeedLayout("stream", "events")
TABLE = FeedLayout("table", "users")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with a stream of three exports over three days and a table of three versions, one retired."""
    lake = Lake(tmp_path)
    land_rows(lake, stream_feed(), [event(number, day=number % 3) for number in range(30)])
    land_rows(lake, stream_feed(), [event(100, day=1)])
    land_rows(lake, stream_feed(), [event(200, day=2), event(201, day=2)])
    for number in range(3):
        land_rows(lake, table_feed(), [{"ID": row, "NAME": "x"} for row in range(5 + number)])
    lake.feed(table_feed(retention=2)).apply_retention()
    return lake


def found(lake: Lake, layout: FeedLayout = STREAM, *, contents: bool = True) -> list[tuple[Problem, str]]:
    """What doctor says of a feed."""
    findings = examine(lake.storage, layout, contents=contents).findings
    return [(finding.problem, Path(finding.key).name) for finding in findings]


def mend(lake: Lake, layout: FeedLayout = STREAM, *, apply: bool = False) -> Examination:
    """Repair, and look again."""
    list(repair(lake.storage, examine(lake.storage, layout), apply=apply))
    return examine(lake.storage, layout)


def timeless(summary: dict[str, Any]) -> dict[str, Any]:
    """A `_metadata.json` without the commit times, of which file names know only the second."""
    parts = [{**part, "committed_at": ""} for part in summary["partitions"]]
    return {**summary, "partitions": parts, "last_export": ""}


def quarantined(lake: Lake, name: str) -> list[bytes]:
    """What quarantine holds under a name."""
    return [path.read_bytes() for path in Path(lake.root).rglob(f"*quarantine*/**/{name}")]


def parquet(lake: Lake, folder: str = "streams/events") -> list[Path]:
    """The feed's Parquet files."""
    return sorted(Path(lake.root, folder).rglob("*.parquet"))


def test_a_sound_lake_is_sound(lake: Lake) -> None:
    """Nothing is found where nothing is wrong, and every file was looked at."""
    assert feeds_in(lake.storage) == [STREAM, TABLE]
    for layout, files in ((STREAM, 5), (TABLE, 2)):
        result = examine(lake.storage, layout)
        assert result.sound, result.findings
        assert result.files == files


def test_a_flipped_byte_is_named(lake: Lake) -> None:
    """Any changed byte in any Parquet file is noticed, and the file leaves the lake only when asked."""
    rows = held_rows(lake, stream_feed())
    victim = parquet(lake)[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 1
    victim.write_bytes(data)

    assert found(lake) == [(Problem.FILE_DAMAGED, victim.name)]
    assert found(lake, contents=False) in ([], [(Problem.FILE_DAMAGED, victim.name)])
    assert not mend(lake).sound
    assert victim.read_bytes() == bytes(data)
    assert mend(lake, apply=True).sound
    assert not victim.exists()
    assert [path.read_bytes() for path in Path(lake.root).rglob(f"*quarantine*/**/{victim.name}")] == [
        bytes(data)
    ]
    assert sum(held_rows(lake, stream_feed()).values()) == sum(rows.values()) - 10
    again = land_rows(lake, stream_feed(), [event(number, day=number % 3) for number in range(30)])
    assert again.manifest.counts[0].new == 10


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("contents", [True, False])
def test_damage_to_one_of_many_files_hides_none_to_another(tmp_path: Path, contents: bool, links: bool) -> None:
    """Many files go through each check together, large ones alone; each is judged by itself."""
    lake, large = Lake(tmp_path), 65
    rows = [event(number, day=day) for day in range(70) for number in range(3)]
    rows[large * 3]["NOTE"] = Random(1).randbytes(300_000).hex()
    land_rows(lake, stream_feed(), rows, days=70)
    files = parquet(lake)
    assert files[large].stat().st_size > _SMALL
    for number in (3, 40):
        files[number].unlink()
    for number in (4, 69):
        files[number].unlink()
        if links:
            files[number].symlink_to(files[number].name)
    files[5].write_bytes(files[5].read_bytes()[:-1])
    for number in (6, 41, large):
        flip(files[number])

    result = examine(lake.storage, STREAM, contents=contents)

    expected = {3: Problem.FILE_MISSING, 40: Problem.FILE_MISSING, 5: Problem.FILE_DAMAGED}
    expected |= dict.fromkeys((4, 69), Problem.FILE_UNREADABLE if links else Problem.FILE_MISSING)
    if contents:
        expected |= dict.fromkeys((6, 41, large), Problem.FILE_DAMAGED)
    named = {finding.key: finding.problem for finding in result.findings}
    assert named == {
        files[number].relative_to(lake.root).as_posix(): problem for number, problem in expected.items()
    }
    assert len(result.findings) == len(expected)
    assert result.files == 70 - 4


def test_a_file_that_cannot_be_read_is_left_to_a_person(lake: Lake) -> None:
    """What the operating system refuses to read is named, and no repair touches it."""
    victim = parquet(lake)[0]
    victim.unlink()
    victim.symlink_to(victim.name)

    (finding,) = examine(lake.storage, STREAM).findings

    assert (finding.problem, finding.remedy) == (Problem.FILE_UNREADABLE, Remedy.MANUAL)
    assert finding.detail == "cannot be read: too many levels of symbolic links"
    with pytest.raises(LakeError, match="too many levels"):
        mend(lake, apply=True)
    assert victim.is_symlink()


class ExportedMeanwhile(LocalStorage):
    """A lake to which someone commits as soon as its manifests have been read."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.root)
        self.lake = lake
        self.walks = 0

    def walk(self, folder: str) -> Iterator[str]:
        """Commit before the second look at the data files."""
        self.walks += 1
        if self.walks == 2:
            land_rows(self.lake, stream_feed(), [event(500)])
        return super().walk(folder)


class ExportedWhileRead(LocalStorage):
    """A lake to which someone commits while doctor reads its first manifest."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.root)
        self.lake = lake
        self.reads = 0

    def read(self, key: str) -> bytes | None:
        """Commit once the manifests are listed."""
        self.reads += "/commits/" in key
        if self.reads == 1 and "/commits/" in key:
            land_rows(self.lake, stream_feed(), [event(500)])
        return super().read(key)


def test_an_export_while_manifests_are_read_misses_no_manifest(lake: Lake) -> None:
    """A commit that is made after the manifests were listed is never taken for one that was lost."""
    storage = ExportedWhileRead(lake)

    problems = {finding.problem for finding in examine(storage, STREAM).findings}

    assert storage.reads > 1
    assert not problems & {Problem.MANIFEST_MISSING, Problem.FILE_FOREIGN, Problem.FILE_UNNAMED}


def test_an_export_while_doctor_looks_is_no_foreign_file(lake: Lake) -> None:
    """A file that is committed between two looks is never taken for one that no commit knows."""
    storage = ExportedMeanwhile(lake)
    stray = Path(lake.root, STREAM.dataset, "notes.txt")
    stray.write_text("a file that makes doctor look twice")

    findings = examine(storage, STREAM).findings

    assert storage.walks == 2
    assert [Path(one.key).name for one in findings if one.problem is Problem.FILE_FOREIGN] == ["notes.txt"]
    stray.unlink()
    assert examine(lake.storage, STREAM).sound


class OnceAsked(LocalStorage):
    """A lake in which something happens when a file is first asked for in some way, before the answer.

    Args:
        lake: The lake.
        way: `size`, `read` or `open`.
        part: A part of the file's key.
        happens: What happens.
    """

    def __init__(self, lake: Lake, way: str, part: str, happens: Callable[[], object]) -> None:
        super().__init__(lake.root)
        self._way, self._part, self._waits = way, part, [happens]

    def _ask(self, way: str, key: str) -> None:
        if way == self._way and self._part in key and self._waits:
            self._waits.pop()()

    def size(self, key: str) -> int | None:
        """Answer after what happens."""
        self._ask("size", key)
        return super().size(key)

    def read(self, key: str) -> bytes | None:
        """Answer after what happens."""
        self._ask("read", key)
        return super().read(key)

    def open(self, key: str, *, whole: bool = False) -> BufferedReader:
        """Answer after what happens."""
        self._ask("open", key)
        return super().open(key, whole=whole)


def test_a_file_that_is_published_while_doctor_looks_is_not_missing(lake: Lake) -> None:
    """It is in neither place when doctor looks at both, one after the other; nothing is wrong with it."""
    entry = lake.feed(stream_feed()).state().files_of("2025-01-17")[-1]
    manifest = lake.feed(stream_feed()).log.manifest(3)
    published = Path(lake.root, STREAM.data(entry.path))
    staged = Path(lake.root, STREAM.attempt(3, manifest.attempt), entry.staged)
    staged.parent.mkdir(parents=True)
    published.rename(staged)

    def publish() -> None:
        staged.rename(published)
        staged.parent.rmdir()

    assert found(lake) == [(Problem.FILE_UNPUBLISHED, published.name)]
    assert examine(OnceAsked(lake, "size", staged.parent.name, publish), STREAM).sound


@pytest.mark.parametrize("way", ["size", "read", "open"])
def test_files_that_are_removed_while_doctor_looks_are_not_missing(tmp_path: Path, way: str) -> None:
    """A merge or a retention explains them; a lost file beside them is still named."""
    lake, name = Lake(tmp_path), Random(1).randbytes(300_000).hex() if way == "open" else "x"
    for number in range(3):
        land_rows(lake, table_feed(), [{"ID": number, "NAME": name}])
    storage = OnceAsked(lake, way, "version=v1", lambda: lake.feed(table_feed(retention=1)).apply_retention())
    lost = parquet(lake, "tables/users")[-1]

    result = examine(storage, TABLE)

    assert result.sound, result.findings
    assert (result.files, len(parquet(lake, "tables/users"))) == (1, 1)
    assert examine(lake.storage, TABLE).sound
    lost.unlink()
    assert found(lake, TABLE) == [(Problem.FILE_MISSING, lost.name)]


def test_a_plan_that_is_out_of_date_forgets_nothing(lake: Lake) -> None:
    """A file that came back stays in the lake, and after another commit the plan has to be made again."""
    victim = parquet(lake)[0]
    data, rows = victim.read_bytes(), held_rows(lake, stream_feed())
    victim.unlink()
    plan = examine(lake.storage, STREAM)
    victim.write_bytes(data)

    assert list(repair(lake.storage, plan, apply=True)) == []
    assert held_rows(lake, stream_feed()) == rows

    land_rows(lake, stream_feed(), [event(300, day=2)])
    victim.unlink()
    with pytest.raises(ConflictError, match="another run committed to the feed meanwhile"):
        list(repair(lake.storage, plan, apply=True))
    victim.write_bytes(data)
    assert sum(held_rows(lake, stream_feed()).values()) == sum(rows.values()) + 1
    assert examine(lake.storage, STREAM).sound


def test_a_torn_file_does_not_keep_metadata_from_coming_back(lake: Lake) -> None:
    """With `metadata/` gone and one file cut short, the rest comes back; that file is named and kept aside."""
    before = held_rows(lake, stream_feed())
    victim = parquet(lake)[-1]
    victim.write_bytes(victim.read_bytes()[:-20])
    shutil.rmtree(Path(lake.root, "metadata"))

    assert [(one.problem, Path(one.key).name) for one in mend(lake).findings] == [
        (Problem.FILE_FOREIGN, victim.name)
    ]
    assert sum(held_rows(lake, stream_feed()).values()) == sum(before.values()) - 2
    assert mend(lake, apply=True).sound
    assert quarantined(lake, victim.name)


def test_a_deleted_file_is_named_and_can_be_forgotten(lake: Lake) -> None:
    """A lost file is not repaired away silently; once forgotten, the next export brings its rows back."""
    victim = parquet(lake)[0]
    victim.unlink()

    assert found(lake) == [(Problem.FILE_MISSING, victim.name)]
    assert [finding.problem for finding in mend(lake).findings] == [Problem.FILE_MISSING]
    assert mend(lake, apply=True).sound
    state = lake.feed(stream_feed()).state()
    assert sorted(state.looked) == ["2025-01-16", "2025-01-17"]
    assert sorted(state.certified) == ["2025-01-16", "2025-01-17"]
    commit = land_rows(lake, stream_feed(), [event(number, day=number % 3) for number in range(30)])
    assert [count.new for count in commit.manifest.counts] == [10, 0, 0]
    assert examine(lake.storage, STREAM).sound


@pytest.mark.parametrize(
    "name",
    [
        "streams/events/_SUCCESS",
        "streams/events/year=2025/month=01/day=15/part-0.parquet",
        "streams/events/a/b.csv",
    ],
)
def test_a_foreign_file_is_named_and_kept_aside(lake: Lake, name: str) -> None:
    """A file no commit knows is named, and moved to quarantine only when asked."""
    path = Path(lake.root, "streams/events", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PAR1 not ours")

    assert found(lake) == [(Problem.FILE_FOREIGN, path.name)]
    mend(lake)
    assert path.exists()
    assert mend(lake, apply=True).sound
    assert not path.exists()
    assert [kept.read_bytes() for kept in Path(lake.root).rglob(f"*quarantine*/**/{path.name}")] == [
        b"PAR1 not ours"
    ]


@pytest.mark.parametrize("edit", [(b'"records": 1', b'"records": 4'), (b"{", b""), (b'"append"', b'"look"')])
def test_an_edited_manifest_is_named_and_rebuilt(lake: Lake, edit: tuple[bytes, bytes]) -> None:
    """A hand-edited manifest is found and rewritten from the footers; totals are as before."""
    path = Path(lake.root, STREAM.manifest(2))
    before = msgspec.json.decode(Path(lake.root, STREAM.summary).read_bytes())
    assert edit[0] in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(*edit, 1))

    assert (Problem.MANIFEST_DAMAGED, path.name) in found(lake)
    assert mend(lake).sound
    after = msgspec.json.decode(Path(lake.root, STREAM.summary).read_bytes())
    assert timeless(after) == timeless(before)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_manifest_is_named_and_rebuilt(lake: Lake, number: int) -> None:
    """A deleted manifest is found, whatever its number, and rewritten."""
    Path(lake.root, STREAM.manifest(number)).unlink()
    Path(lake.root, STREAM.checkpoint).unlink(missing_ok=True)

    assert found(lake)[0] == (Problem.MANIFEST_MISSING, f"{number:020d}.json")
    assert mend(lake).sound
    assert sum(held_rows(lake, stream_feed()).values()) == 33


@pytest.mark.parametrize("killed", [False, True])
def test_no_day_counts_as_read_where_a_commit_is_lost_with_its_rows(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Which days a lost commit had rows of is not known: all are read again, also if the repair was killed."""
    feed, create = stream_feed(), LocalStorage.create
    lost = [path for path in parquet(lake) if path.stem.endswith("_000002")]
    for path in [*lost, Path(lake.root, STREAM.manifest(2))]:
        path.unlink()

    def cut(storage: LocalStorage, key: str, data: bytes, *, temporary: str) -> bool:
        if key == STREAM.manifest(2):
            raise KeyboardInterrupt
        return create(storage, key, data, temporary=temporary)

    if killed:
        monkeypatch.setattr(LocalStorage, "create", cut)
        with pytest.raises(KeyboardInterrupt):
            mend(lake)
        monkeypatch.setattr(LocalStorage, "create", create)
        assert found(lake)[0] == (Problem.MANIFEST_MISSING, f"{2:020d}.json")
    assert mend(lake).sound

    state = Lake(lake.root).feed(feed).state()
    assert (dict(state.looked), dict(state.certified), dict(state.evidence)) == ({}, {}, {})
    plan = plan_export(feed, Lake(lake.root))
    assert plan.days is not None
    assert (plan.days.first, plan.reason) == (feed.start_date, "no day counts as read since a repair")
    assert land_rows(Lake(lake.root), feed, [event(100, day=1)]).manifest.operation == "append"
    assert sum(held_rows(Lake(lake.root), feed).values()) == 33


def test_all_metadata_comes_back_from_the_footers(lake: Lake) -> None:
    """With `metadata/` deleted, repair brings back the same totals, partitions, versions and identity."""
    totals = {}
    for layout in (STREAM, TABLE):
        totals[layout] = msgspec.json.decode(Path(lake.root, layout.summary).read_bytes())
    shutil.rmtree(Path(lake.root, "metadata"))
    assert found(lake)[0][0] is Problem.MANIFEST_MISSING

    for layout in (STREAM, TABLE):
        assert mend(lake, layout).sound
        after = msgspec.json.decode(Path(lake.root, layout.summary).read_bytes())
        for name in ("source", "total_records", "total_bytes", "total_size_mb", "schema", "latest_version"):
            assert after[name] == totals[layout][name], name
        assert timeless(after)["partitions"] == timeless(totals[layout])["partitions"]
    again = land_rows(lake, stream_feed(), [event(number, day=number % 3) for number in range(30)])
    assert again.manifest.operation == "look"
    assert land_rows(lake, table_feed(), [{"ID": 1, "NAME": "z"}]).state.latest_version == 4


def test_metadata_comes_back_after_compaction(lake: Lake) -> None:
    """A merged file knows what it replaced, so a lost compaction commit comes back as one."""
    list(lake.feed(stream_feed()).compact(now=datetime(2025, 3, 1, tzinfo=UTC)))
    rows = held_rows(lake, stream_feed())
    state = lake.feed(stream_feed()).state()

    Path(lake.root, STREAM.manifest(state.sequence)).unlink()
    assert mend(lake).sound
    assert held_rows(lake, stream_feed()) == rows
    shutil.rmtree(Path(lake.root, "metadata"))
    assert mend(lake).sound
    assert held_rows(lake, stream_feed()) == rows


def test_unfinished_work_is_finished(lake: Lake) -> None:
    """Committed but unpublished files are published, and removals that were cut short are finished."""

    def stop(name: str) -> None:
        if name == "publish":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        land_rows(Lake(lake.root, on_step=stop), stream_feed(), [event(300)])

    assert [problem for problem, _ in found(lake)] == [Problem.FILE_UNPUBLISHED, Problem.SUMMARY_STALE]
    assert mend(lake).sound
    assert sum(held_rows(lake, stream_feed()).values()) == 34


def test_stale_and_damaged_derived_files_are_written_anew(lake: Lake) -> None:
    """An edited `_metadata.json` or checkpoint is named and derived again."""
    Path(lake.root, STREAM.summary).write_bytes(b'{"total_records": 1000000, "commit": 3}')
    Path(lake.root, STREAM.checkpoint).write_bytes(b"{}")

    assert found(lake) == [
        (Problem.SUMMARY_STALE, "_metadata.json"),
        (Problem.CHECKPOINT_DAMAGED, "checkpoint.json"),
    ]
    assert mend(lake).sound


def test_staging_of_dead_exports_is_named(lake: Lake) -> None:
    """What a killed export left is shown, and removed by a repair."""
    left = Path(lake.root, STREAM.attempt(2, "deadbeef"))
    left.mkdir(parents=True)
    (left / "2025-01-15.tmp").write_bytes(b"half a file")

    assert found(lake) == [(Problem.STAGING_LEFT, left.name)]
    assert left.exists()
    assert mend(lake).sound
    assert not left.exists()


@pytest.mark.parametrize(
    "changes",
    [{"sequence": 4}, {"sequence": -1}, {"new": 11}, {"late": -1}, {"committed_at": "yesterday"}],
)
def test_a_checkpoint_with_fitting_digests_is_compared_with_the_manifests(
    lake: Lake, changes: dict[str, Any]
) -> None:
    """What it says of a commit that there is not, or of one that did something else, is named."""
    one = lake.feed(stream_feed())
    facts = [facts_of(one.log.manifest(number)) for number in (1, 2, 3)]
    checkpoint = Path(lake.root, STREAM.checkpoint)
    checkpoint.write_bytes(encode_checkpoint(one.state(), facts))
    assert found(lake) == []

    checkpoint.write_bytes(encode_checkpoint(one.state(), [replace(facts[0], **changes), *facts[1:]]))

    assert found(lake) == [(Problem.CHECKPOINT_DAMAGED, "checkpoint.json")]
    assert mend(lake).sound


@pytest.mark.parametrize("changes", [{"sequence": -1}, {"sequence": 4}, {"latest_version": 2}, {"looked": {}}])
def test_a_checkpoint_with_an_untrue_state_is_named(lake: Lake, changes: dict[str, Any]) -> None:
    """Also one that could not have been written is found by the comparison with the manifests."""
    state = replace(lake.feed(stream_feed()).state(), **changes)
    Path(lake.root, STREAM.checkpoint).write_bytes(encode_checkpoint(state))

    assert found(lake) == [(Problem.CHECKPOINT_DAMAGED, "checkpoint.json")]
    assert mend(lake).sound


def test_rows_outside_their_day_are_named(lake: Lake) -> None:
    """A file in the wrong day's folder is noticed by the event times inside."""
    state = lake.feed(stream_feed()).state()
    entry = state.files_of("2025-01-16")[0]
    manifest = lake.feed(stream_feed()).log.manifest(1)
    path = entry.path.replace("year=2025/month=01/day=16", "year=2025/month=02/day=01")
    target = Path(lake.root, STREAM.data(path))
    target.parent.mkdir(parents=True)
    Path(lake.root, STREAM.data(entry.path)).rename(target)
    wrong = [
        replace(file, partition="2025-02-01", path=path) if file.path == entry.path else file
        for file in manifest.added
    ]
    Path(lake.root, STREAM.manifest(1)).write_bytes(replace(manifest, added=wrong).encode())
    Path(lake.root, STREAM.checkpoint).unlink(missing_ok=True)

    problems = dict(found(lake))

    assert Problem.ROW_OUTSIDE_DAY in problems
    (finding,) = examine(lake.storage, STREAM).of(Problem.ROW_OUTSIDE_DAY)
    assert "10 rows, e.g. event time" in finding.detail
    assert finding.remedy is Remedy.MANUAL


def test_findings_are_ready_for_scripts(lake: Lake) -> None:
    """A finding says path, problem, detail, commit, remedy and action as plain data."""
    parquet(lake)[0].unlink()
    (finding,) = examine(lake.storage, STREAM).findings

    assert finding.as_dict() == {
        "problem": "file missing",
        "path": finding.key,
        "detail": "10 rows of 2025-01-15",
        "commit": 1,
        "remedy": "apply",
        "action": "forget it; the next export of a stream reads its day again",
    }


def test_a_commit_in_the_future_is_questioned(tmp_path: Path) -> None:
    """A reading dated in what is still to come is named and not repaired; the next honest one ends it."""
    lake, ahead = Lake(tmp_path), (datetime.now(UTC) + timedelta(days=3)).isoformat(timespec="milliseconds")
    land_rows(lake, stream_feed(), [event(1)], read_at=ahead)
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "x"}], read_at=ahead)

    (finding,) = mend(lake).findings
    assert (finding.problem, finding.sequence, finding.remedy) == (Problem.COMMIT_AHEAD, 1, Remedy.MANUAL)
    assert finding.detail == f"the reading of 3 days is dated {ahead}: by a clock that is ahead"
    assert found(lake, TABLE) == [(Problem.COMMIT_AHEAD, "00000000000000000001.json")]
    land_rows(lake, stream_feed(), [event(1)])
    assert found(lake) == []
