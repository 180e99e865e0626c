"""A lake in an object store: what differs from a disk, on real servers and through a proxy that interferes."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ksql_lake.errors import (
    ConfigError,
    ConflictError,
    KsqlLakeError,
    LakeError,
    Recovery,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    WriteError,
)
from ksql_lake.lake import Lake, bucket, objects
from ksql_lake.lake.doctor.examine import examine
from ksql_lake.lake.object_storage import PROBE, ObjectStorage
from ksql_lake.lake.opening import open_storage
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed
from ksql_lake_tests.lake.test_commit import Interrupted, globbed
from ksql_lake_tests.stores.places import Place
from ksql_lake_tests.stores.proxy import Answer, Interfere, Proxy, Request, proxied
from ksql_lake_tests.stores.servers import KEY, SECRET, Store

FEED = stream_feed()


@pytest.fixture
def proxy(moto_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before moto, with the environment that leads through it and little patience."""
    monkeypatch.setitem(bucket._RETRY, "max_retries", 1)
    with proxied(moto_store.url) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


def storage_at(root: str) -> ObjectStorage:
    """Open a bucket."""
    storage = open_storage(root)
    assert isinstance(storage, ObjectStorage)
    return storage


def once(does: str, answer: Answer, *, ending: str = "") -> Interfere:
    """Interfere with the first request of a kind."""
    left = [answer]

    def interfere(request: Request) -> Answer | None:
        if request.does == does and request.key.endswith(ending) and left:
            return left.pop()
        return None

    return interfere


def always(answer: Answer, *does: str) -> Interfere:
    """Interfere with every request of some kinds."""
    return lambda request: answer if request.does in does else None


def test_a_store_that_ignores_the_condition_is_refused(
    proxy: Proxy, moto_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where If-None-Match does not reach the store, the first export ends before anything is written."""
    root = moto_store.fresh()

    def strip(request: Request) -> None:
        for name in [name for name in request.headers if name.lower() == "if-none-match"]:
            del request.headers[name]

    proxy.interfere = strip

    with pytest.raises(ConfigError) as raised:
        land_rows(Lake(root), FEED, [event(1)])

    assert str(raised.value) == (
        f"path {root}/{PROBE}: the object store ignores If-None-Match: it let the same "
        "object be created twice\nTwo exports at once could both win there, and rows be lost. Use a store, or "
        "a release of it, that knows conditional writes; see docs/object-stores.md."
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_store.url)
    assert Place(root).keys() == [PROBE]


def test_stores_prove_themselves_once(store: Store, proxy_before: Callable[[Store], Proxy]) -> None:
    """The proof is two requests for a new lake and one later, whatever the number of exports."""
    proxy = proxy_before(store)
    root = store.fresh()
    lake = Lake(root)
    for number in range(3):
        land_rows(lake, FEED, [event(number)])
    first = sum(request.key.endswith(PROBE) for request in proxy.seen)
    proxy.seen.clear()
    land_rows(Lake(root), FEED, [event(4)])

    assert (first, sum(request.key.endswith(PROBE) for request in proxy.seen)) == (2, 1)


@pytest.fixture
def proxy_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Store], Proxy]]:
    """Put a proxy before a store; moto does not mind the address, SeaweedFS checks what it was signed for."""
    open_ones = []

    def start(store: Store) -> Proxy:
        context = proxied(store.url)
        running = context.__enter__()
        open_ones.append(context)
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        return running

    yield start
    for context in open_ones:
        context.__exit__(None, None, None)


@pytest.mark.parametrize("racers", [4])
def test_one_of_many_creates(store: Store, racers: int) -> None:
    """Of several that create the same object at the same moment, exactly one is told that it did."""
    storage = storage_at(store.fresh())
    for number in range(25):
        ready = threading.Barrier(racers)
        won: list[bool] = []

        def race(key: str = f"key-{number}", ready: threading.Barrier = ready, won: list[bool] = won) -> None:
            ready.wait()
            won.append(storage.create(key, b"x", temporary=""))

        threads = [threading.Thread(target=race) for _ in range(racers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False] * (racers - 1) + [True]


def test_an_answer_that_is_lost_is_not_a_conflict(proxy: Proxy, moto_store: Store) -> None:
    """A manifest that was created, but whose answer broke, is tried again, refused, and known as one's own."""
    root = moto_store.fresh()
    land_rows(Lake(root), FEED, [event(1)])
    proxy.interfere = once("create", Answer(status=500, forward=True), ending=".json")

    commit = land_rows(Lake(root), FEED, [event(1), event(2)])

    assert sum(request.does == "create" and request.key.endswith("2.json") for request in proxy.seen) == 2
    assert (commit.sequence, commit.manifest.counts[0].new) == (2, 1)
    assert globbed(Lake(root)) == Counter([1, 2])


def test_a_commit_of_unknown_outcome_keeps_its_rows(proxy: Proxy, moto_store: Store) -> None:
    """When the manifest arrives, but no answer ever does, the export fails, and the next run publishes it."""
    root = moto_store.fresh()
    land_rows(Lake(root), FEED, [event(1)])
    landed: list[str] = []

    def lose(request: Request) -> Answer | None:
        if request.does == "create" and request.key.endswith("2.json"):
            landed.append(request.key)
            return Answer(status=503, forward=True)
        return Answer(status=503) if landed and request.does == "get" else None

    proxy.interfere = lose
    with pytest.raises(StoreUnavailableError):
        land_rows(Lake(root), FEED, [event(1), event(2)])
    proxy.interfere = lambda _request: None

    assert globbed(Lake(root)) == Counter([1])
    assert Lake(root).feed(FEED).recover().records == 2
    assert globbed(Lake(root)) == Counter([1, 2])
    assert_clean(root)


def assert_clean(root: str) -> None:
    """After two more commits the doctor finds nothing."""
    lake = Lake(root)
    for _ in range(2):
        land_rows(lake, FEED, [])
    assert [str(finding) for finding in examine(lake.storage, lake.feed(FEED).layout).findings] == []


def test_a_failed_upload_in_parts_is_aborted(
    proxy: Proxy, moto_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file whose third part is refused leaves no parts behind, no commit and nothing staged."""
    monkeypatch.setattr(objects, "PART_BYTES", 5 * 1024 * 1024)
    root = moto_store.fresh()
    storage = storage_at(root)
    storage.begin("staging/1-a")
    storage.local_file("staging/1-a/big.tmp").write_bytes(os.urandom(17_000_000))
    proxy.interfere = lambda request: (
        Answer(403) if request.does == "part" and "big" in request.key and _parts(proxy) == 3 else None
    )

    with pytest.raises(StoreRefusedError, match="could not be written"):
        storage.stage("staging/1-a", ["big.tmp"])

    assert proxy.counts["begin"] == proxy.counts["abort"] == 1
    assert proxy.counts["complete"] == 0
    assert Place(root).keys() == []


def _parts(proxy: Proxy) -> int:
    return proxy.counts["part"]


def test_a_large_file_arrives_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of several parts is staged, published and fetched byte for byte."""
    monkeypatch.setattr(objects, "PART_BYTES", 5 * 1024 * 1024)
    root = store.fresh()
    storage, data = storage_at(root), os.urandom(17_000_000)
    storage.begin("staging/1-a")
    storage.local_file("staging/1-a/big.tmp").write_bytes(data)

    storage.stage("staging/1-a", ["big.tmp"])

    assert storage.publish("staging/1-a/big.tmp", "streams/big.parquet")
    assert Place(root).read("streams/big.parquet") == data
    with storage.open("streams/big.parquet", whole=True) as whole:
        assert whole.read() == data


def test_what_the_store_cannot_copy_is_read_and_written(
    proxy: Proxy, moto_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a copy is refused for its size (5 GB in S3), the bytes go through this machine."""
    monkeypatch.setattr(objects, "COPY_BYTES", 1000)
    root = moto_store.fresh()
    storage = storage_at(root)
    storage.replace("staging/large", b"x" * 1001, temporary="")
    storage.replace("staging/small", b"x" * 1000, temporary="")
    proxy.interfere = always(Answer(400), "copy")

    assert storage.publish("staging/large", "large")
    with pytest.raises(LakeError, match="could not be written"):
        storage.publish("staging/small", "small")

    assert len(Place(root).read("large")) == 1001


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        (None, "what was staged here is not there, and nobody can have cleared it\nNothing was committed."),
        (b"ro", "bytes were sent, but the object store holds 2\nNothing was committed."),
    ],
    ids=["nothing", "less"],
)
def test_a_store_that_loses_bytes_is_found_out(
    proxy: Proxy, moto_store: Store, kept: bytes | None, text: str
) -> None:
    """What was uploaded is compared with what the store says it holds, before anything is committed."""
    root = moto_store.fresh()
    land_rows(Lake(root), FEED, [event(1)])

    instead: list[str] = []

    def lose(request: Request) -> Answer | None:
        if request.does != "put" or not request.key.endswith("/2025-01-15.2.new.tmp") or instead:
            return None
        if kept is not None:
            instead.append(request.key)
            Place(root).write(request.key.partition("/")[2], kept)
        return Answer(200, headers=(("ETag", '"none"'),))

    proxy.interfere = lose
    with pytest.raises(StoreError) as raised:
        land_rows(Lake(root), FEED, [event(1), event(2)])

    assert text in str(raised.value)
    proxy.interfere = lambda _request: None
    assert globbed(Lake(root)) == Counter([1])
    assert_clean(root)


def test_a_staging_cleared_while_it_is_uploaded_is_uploaded_again(moto_store: Store, proxy: Proxy) -> None:
    """Others who commit the number and clear the folder in the midst of an upload only cost another upload."""
    root = moto_store.fresh()
    land_rows(Lake(root), FEED, [event(1)])
    cleared = False

    def clear(request: Request) -> None:
        nonlocal cleared
        if request.does == "list" and "staging%2F00000000000000000002-" in request.key and not cleared:
            cleared = True
            for number in (2, 3):
                land_rows(Lake(root), FEED, [event(number)])

    proxy.interfere = clear
    commit = land_rows(Lake(root), FEED, [event(1), event(4)])

    assert cleared
    assert (commit.sequence, commit.manifest.counts[0].new) == (4, 1)
    assert globbed(Lake(root)) == Counter([1, 2, 3, 4])
    assert_clean(root)


def test_a_download_that_breaks_off_is_an_error(proxy: Proxy, moto_store: Store) -> None:
    """A committed file that cannot be fetched whole is never compared with in part."""
    root = moto_store.fresh()
    land_rows(Lake(root), FEED, [event(1)])
    proxy.interfere = lambda request: (
        Answer(503) if request.does == "get" and request.key.endswith(".parquet") else None
    )

    with pytest.raises(StoreUnavailableError, match="could not be read"):
        land_rows(Lake(root), FEED, [event(1), event(2)])

    proxy.interfere = lambda _request: None
    assert globbed(Lake(root)) == Counter([1])


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (
            Answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"),
            StoreRefusedError,
            "the object store refused (status 403, AccessDenied, Access Denied)\nCheck the credentials",
        ),
        (
            Answer(404, b"<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>"),
            ConfigError,
            "path s3://lake: there is no such bucket\nCreate it, or set KSQL_LAKE_ROOT",
        ),
        (
            Answer(503, b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"),
            StoreUnavailableError,
            "the object store did not answer as it should (status 503, SlowDown, Reduce your rate)\nIs",
        ),
        (
            Answer(400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>region</Message></Error>"),
            ConfigError,
            "the bucket is elsewhere (status 400, AuthorizationHeaderMalformed, region)\nSet AWS_REGION",
        ),
        (
            Answer(501, b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>"),
            ConfigError,
            "the object store cannot do what the lake needs (status 501, NotImplemented, no)",
        ),
    ],
    ids=["refused", "no-bucket", "busy", "elsewhere", "unable"],
)
@pytest.mark.parametrize("asked", ["create", "list"])
def test_what_a_store_says_becomes_an_error_that_helps(
    proxy: Proxy, moto_store: Store, answer: Answer, kind: type[KsqlLakeError], text: str, asked: str
) -> None:
    """Each answer names the address and what to do, whichever request met it, and holds no secret."""
    root = moto_store.fresh()
    proxy.interfere = always(answer, asked)

    with pytest.raises(kind) as raised:
        land_rows(Lake(root), FEED, [event(1)])

    said = str(raised.value)
    assert text in said
    assert root in said or "s3://lake: " in said
    assert SECRET not in said
    assert KEY not in said


def test_a_store_that_cannot_be_reached_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address is an error that a caller may retry; it names the address."""
    monkeypatch.setitem(bucket._RETRY, "max_retries", 1)
    for name, value in Store("none", "http://127.0.0.1:9", 0).environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(StoreUnavailableError) as raised:
        Lake("s3://lake/x").feed(FEED).state()

    assert raised.value.recovery is Recovery.RETRY
    assert str(raised.value) == (
        "path s3://lake/x/metadata/streams/events/checkpoint.json: could not be read: the object store did not "
        "answer as it should (HTTP error: error sending request)\n"
        "Is the store up, and the endpoint right? It was tried several times; what is committed is safe."
    )


def test_wrong_credentials_are_said_so(seaweedfs_server: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real store that does not know the key, and one that was signed for with another secret."""
    for name, value in seaweedfs_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    root = seaweedfs_server.fresh()

    with pytest.raises(StoreRefusedError, match="SignatureDoesNotMatch") as raised:
        land_rows(Lake(root), FEED, [event(1)])

    assert raised.value.recovery is Recovery.FIX
    assert "another-secret" not in "".join(traceback.format_exception(raised.value))


def test_a_missing_bucket_is_said_so(store: Store) -> None:
    """Both servers: reading and writing name the bucket that is not there."""
    del store
    for use in (lambda lake: lake.feed(FEED).state(), lambda lake: land_rows(lake, FEED, [event(1)])):
        with pytest.raises(ConfigError, match="path s3://no-such-bucket: there is no such bucket"):
            use(Lake("s3://no-such-bucket/x"))


@pytest.mark.parametrize(
    ("root", "text"),
    [
        ("ftp://host/x", "KSQL_LAKE_ROOT begins with ftp://, which is no object store known here"),
        ("s3:///x", "KSQL_LAKE_ROOT must name a bucket: s3://BUCKET/PREFIX"),
        ("s3://lake/../x", "KSQL_LAKE_ROOT must name a bucket: s3://BUCKET/PREFIX"),
        ("s3://key:hidden@lake/x", "KSQL_LAKE_ROOT must be s3://BUCKET/PREFIX and nothing else"),
        ("s3://lake/x?secret=hidden", "KSQL_LAKE_ROOT must be s3://BUCKET/PREFIX and nothing else"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(root: str, text: str) -> None:
    """The error says what an address looks like and repeats nothing that may be a secret."""
    with pytest.raises(ConfigError, match="KSQL_LAKE_ROOT") as raised:
        Lake(root)

    assert text in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_http_has_to_be_allowed(moto_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without TLS is refused until AWS_ALLOW_HTTP says that it is meant."""
    monkeypatch.delenv("AWS_ALLOW_HTTP")

    with pytest.raises(ConfigError, match="begins with http://, not https://") as raised:
        Lake(moto_store.fresh()).feed(FEED).state()

    assert "AWS_ALLOW_HTTP=true" in str(raised.value)


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    """Where obstore is missing, an address is refused with the command that installs it; a folder works."""
    (tmp_path / "obstore.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'obstore'\", name='obstore')"
    )
    code = (
        "from ksql_lake.lake import Lake\n"
        "from ksql_lake.errors import ConfigError\n"
        "Lake('folder')\n"
        "try:\n    Lake('s3://lake/x')\nexcept ConfigError as error:\n    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},  # noqa: TID251
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == (
        "a lake in an object store needs the Python package obstore, which is not installed\n"
        "pip install 'ksql-lake[object-store]'\n"
    ), done.stderr


def counted(proxy: Proxy, root: str, rows: list[dict[str, object]]) -> Counter[str]:
    """Count the requests of one export by a process that knows nothing yet."""
    proxy.seen.clear()
    land_rows(Lake(root), FEED, rows, days=1)
    return proxy.counts


def test_requests_do_not_grow_with_history(proxy: Proxy, moto_store: Store) -> None:
    """An export costs as many requests after 60 commits of 60 days as after 4, reading new manifests apart."""
    root = moto_store.fresh()
    lake = Lake(root)
    for number in range(4):
        land_rows(lake, FEED, [event(number, day=number)], days=100)
    few = counted(proxy, root, [event(1000)])
    for number in range(5, 64):
        land_rows(lake, FEED, [event(number, day=number)], days=100)
    # The 64th commit writes a checkpoint; four more commits come after it, as after the beginning.
    for number in range(64, 68):
        land_rows(lake, FEED, [event(number, day=number)], days=100)
    many = counted(proxy, root, [event(2000)])

    # The day's second file has to be fetched to be compared with, and nothing else.
    assert many - few == Counter(get=1)
    assert few.total() <= 24
    assert (few["create"], few["copy"], few["delete"]) == (2, 1, 1)


def test_listings_begin_where_the_checkpoint_ends(proxy: Proxy, moto_store: Store) -> None:
    """Manifests are listed from the checkpoint's on, not from the first."""
    root = moto_store.fresh()
    lake = Lake(root)
    for number in range(33):
        land_rows(lake, FEED, [event(number)], days=1)
    proxy.seen.clear()

    Lake(root).feed(FEED).state()

    assert proxy.counts == Counter(get=2, list=1)
    (listing,) = (request.key for request in proxy.seen if request.does == "list")
    assert "start-after" in listing
    assert "00000000000000000031.json" in listing


def test_a_loser_uploads_again_and_needs_not_read_again(moto_store: Store) -> None:
    """An export that slept through two commits of others, which cleared its staging, still lands its rows."""
    root = moto_store.fresh()
    slept = False

    def sleep(name: str) -> None:
        nonlocal slept
        if name == "commit" and not slept:
            slept = True
            for number in (1, 2):
                land_rows(Lake(root), FEED, [event(number)])

    commit = land_rows(Lake(root, on_step=sleep), FEED, [event(1), event(3)])

    assert (commit.sequence, commit.manifest.counts[0].new) == (3, 1)
    assert globbed(Lake(root)) == Counter([1, 2, 3])
    assert_clean(root)


def test_others_see_that_somebody_is_at_work(moto_store: Store) -> None:
    """A run announces itself in its staging folder, and takes the note away at its end."""
    root = moto_store.fresh()
    storage, layout = storage_at(root), Lake(root).feed(FEED).layout

    def look(name: str) -> None:
        if name == "write":
            (folder,) = storage.staged(layout.staging)
            assert storage.touched(f"{layout.staging}/{folder}") is not None
            raise Interrupted

    with pytest.raises(Interrupted):
        _export_and_look(Lake(root), look)

    assert storage.staged(layout.staging) == []


def _export_and_look(lake: Lake, look: Callable[[str], None]) -> None:
    from ksql_lake.lake import ReadFacts
    from ksql_lake_tests.lake.landing import EVENTS, FIRST

    read = ReadFacts(source="EVENTS", statement="SELECT", read_at="2025-02-01T00:00:00+00:00")
    with lake.feed(FEED).stage(EVENTS, read=read, days=(FIRST, FIRST)):
        look("write")


def test_the_spool_is_empty_after_each_run(
    moto_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stays on the local disk: of an export, of one that fails, of a merge, of a process that died."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = moto_store.fresh()
    lake = Lake(root)
    land_rows(lake, FEED, [event(1)])
    land_rows(lake, FEED, [event(1), event(2)])
    with pytest.raises(Interrupted):
        _export_and_look(lake, lambda _name: (_ for _ in ()).throw(Interrupted()))
    assert len(list(lake.feed(FEED).compact())) == 1
    (spool,) = tmp_path.glob("ksql-lake-*/spool-????????????")
    assert list(spool.iterdir()) == []

    dead = spool.with_name("spool-0123456789ab")
    dead.mkdir()
    (dead / "left").touch()
    land_rows(Lake(root), FEED, [event(3)])

    assert not dead.exists()
    assert spool.exists()


def test_a_full_spool_is_said_so(moto_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder that cannot be written is an error that names it and TMPDIR."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    (tmp_path / "file").touch()

    with pytest.raises(WriteError) as raised:
        land_rows(Lake(moto_store.fresh()), FEED, [event(1)])

    assert str(tmp_path / "file") in str(raised.value)
    assert "set TMPDIR to a folder with more" in str(raised.value)


def test_threads_may_share_an_open_file(store: Store, tmp_path: Path) -> None:
    """Many threads that read one file through DuckDB and pyarrow get the same rows as from a disk."""
    root = store.fresh()
    storage = storage_at(root)
    rows = pa.table({"a": range(200_000), "b": [f"text {number % 977}" for number in range(200_000)]})
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=5_000)
    storage.replace("streams/rows.parquet", (tmp_path / "rows.parquet").read_bytes(), temporary="")
    connection = duckdb.connect(config={"threads": 8})
    storage.attach(connection)
    query = "SELECT count(*), sum(a), count(DISTINCT b), max(b) FROM read_parquet('{}')"
    expected = connection.execute(query.format(tmp_path / "rows.parquet")).fetchall()

    for _ in range(5):
        assert connection.execute(query.format(storage.uri("streams/rows.parquet"))).fetchall() == expected
    paths, filesystem = storage.arrow_paths(["streams/rows.parquet"])
    assert pq.read_table(paths[0], filesystem=filesystem).equals(rows)


def test_tables_live_there_too(store: Store) -> None:
    """Snapshots, retention and the doctor in a bucket: the newest versions stay, all is sound."""
    root = store.fresh()
    lake, feed = Lake(root), table_feed(retention=2)
    for number in range(4):
        land_rows(lake, feed, [{"ID": number, "NAME": "a"}])

    assert lake.feed(feed).apply_retention().remove == ("v1", "v2")

    assert {key.split("/")[2] for key in Place(root).keys("tables")} == {"version=v3", "version=v4"}
    assert examine(lake.storage, lake.feed(feed).layout).findings == []


def test_no_secret_reaches_logs_files_or_addresses(moto_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Keys are in the environment and nowhere else: not in objects, logs, or what describes the lake."""
    caplog.set_level(logging.DEBUG)
    root = moto_store.fresh()
    lake = Lake(root)
    land_rows(lake, FEED, [event(1)])
    lake.feed(FEED).record_failure(StoreUnavailableError("could not be read", path=root))

    place = Place(root)
    shown = [caplog.text, repr(lake.storage), repr(vars(lake.storage)), lake.root]
    shown += [place.read(key).decode(errors="replace") for key in place.keys()]  # noqa: SIM118 - not a dict
    for secret in (KEY, SECRET):
        assert not any(secret in text for text in shown)


def test_a_lost_spool_is_a_conflict(moto_store: Store) -> None:
    """Staged files that somebody removed from the local disk before the commit are read again."""
    root = moto_store.fresh()
    lake = Lake(root)
    land_rows(lake, FEED, [event(1)])

    def lose(name: str) -> None:
        if name == "write":
            shutil.rmtree(next(iter(storage_of(lake)._folders.values())))

    with pytest.raises((ConflictError, WriteError)):
        _write_and_lose(lake, lose)

    assert globbed(Lake(root)) == Counter([1])


def storage_of(lake: Lake) -> ObjectStorage:
    """Give a lake's storage as what it is."""
    assert isinstance(lake.storage, ObjectStorage)
    return lake.storage


def _write_and_lose(lake: Lake, lose: Callable[[str], None]) -> None:
    from ksql_lake.lake import ReadFacts
    from ksql_lake.schema import arrow_schema
    from ksql_lake_tests.lake.landing import EVENTS, FIRST

    read = ReadFacts(source="EVENTS", statement="SELECT", read_at="2025-02-01T00:00:00+00:00")
    with lake.feed(FEED).stage(EVENTS, read=read, days=(FIRST, FIRST)) as staging:
        staging.write(pa.RecordBatch.from_pylist([event(2)], schema=arrow_schema(EVENTS)))
        lose("write")
        staging.commit()


def test_a_store_in_trouble_is_tried_for_as_long_as_the_page_says(
    proxy: Proxy, moto_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a number of tries ends them but the time: here two seconds, else a minute."""
    assert bucket._RETRY["retry_timeout"] == timedelta(seconds=60)
    monkeypatch.setitem(bucket._RETRY, "max_retries", 200)
    monkeypatch.setitem(bucket._RETRY, "retry_timeout", timedelta(seconds=2))
    backoff = {"init_backoff": timedelta(milliseconds=20), "max_backoff": timedelta(milliseconds=50), "base": 2}
    monkeypatch.setitem(bucket._RETRY, "backoff", backoff)
    proxy.interfere = always(Answer(503), "get")

    with pytest.raises(StoreUnavailableError):
        Lake(moto_store.fresh()).feed(FEED).state()

    assert proxy.counts["get"] > 15


@pytest.mark.parametrize("stored", [True, False])
def test_a_manifest_whose_answer_is_an_error_is_read_back(
    proxy: Proxy, moto_store: Store, stored: bool
) -> None:
    """What the store did and failed to say is found: the commit stands; what it did not do is an error."""
    root = moto_store.fresh()

    def interfere(request: Request) -> Answer | None:
        manifest = request.does == "create" and "/commits/" in request.key
        return Answer(500, forward=stored) if manifest else None

    proxy.interfere = interfere
    lake = Lake(root)
    if stored:
        assert land_rows(lake, FEED, [event(1)]).sequence == 1
        assert lake.feed(FEED).state().records == 1
    else:
        with pytest.raises(StoreUnavailableError):
            land_rows(lake, FEED, [event(1)])
