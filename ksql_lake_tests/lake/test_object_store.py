"""A lake in an object store: what differs from a disk, on real servers and through a proxy that interferes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ksql_lake.errors import (
    ConfigError,
    KsqlLakeError,
    LakeError,
    Recovery,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.storage import bucket, objects
from ksql_lake.lake.storage.object_storage import PROBE, ObjectStorage
from ksql_lake.lake.storage.opening import open_storage
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed
from ksql_lake_tests.lake.test_commit import globbed
from ksql_lake_tests.stores.places import Place
from ksql_lake_tests.stores.proxy import Answer, Interfere, Proxy, Request, proxied
from ksql_lake_tests.stores.servers import KEY, SECRET, Store

FEED = stream_feed()


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
        "object be created twice\nTwo exports at once could both commit there, and rows be lost. Use a store, "
        "or a release of it, that knows conditional writes; see docs/object-stores.md."
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
    """Of several that create the same object at the same moment, exactly one learns that it did."""
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

    # A client that waits long for its answer sends an abort a second time, which ends nothing else.
    assert (proxy.counts["begin"], proxy.counts["complete"]) == (1, 0)
    assert proxy.counts["abort"] >= 1
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
        (
            None,
            "a staged file is missing, and no other run can have cleared it\nNothing was committed.",
        ),
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
    """An address where no store answers is an error that a caller may retry; it names the address."""
    monkeypatch.setitem(bucket._RETRY, "max_retries", 1)
    for name, value in Store("none", "http://127.0.0.1:9", 0).environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(StoreUnavailableError) as raised:
        Lake("s3://lake/x").feed(FEED).state()

    assert raised.value.recovery is Recovery.RETRY
    assert str(raised.value) == (
        "path s3://lake/x/metadata/streams/events/checkpoint.json: could not be read: the object store did not "
        "answer as it should (HTTP error: error sending request)\n"
        "Is the store up, and the endpoint right? It was tried several times; committed rows are safe."
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
        ("ftp://host/x", "KSQL_LAKE_ROOT begins with ftp://, which is no known object store"),
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
