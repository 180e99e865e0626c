"""The folder of feed files, with real files."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ksql_lake.errors import ConfigError, FeedError, UnknownFeedError
from ksql_lake.feeds import FeedStore, parse_feed

STREAM = {"name": "orders", "kind": "stream", "source": "ORDERS", "start_date": "2025-01-01"}
TABLE = {"name": "totals", "kind": "table", "source": "TOTALS"}

Put = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> FeedStore:
    """A store whose folder exists and is empty."""
    root = tmp_path / "feeds"
    root.mkdir()
    return FeedStore(root)


@pytest.fixture
def put(store: FeedStore) -> Put:
    """Writes a feed file: `put("orders.json", {...})` or with text, into `active` by default."""

    def put_file(file_name: str, content: object, folder: str = "active") -> Path:
        path = store.root / folder / file_name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2) + "\n")
        return path

    return put_file


def files(store: FeedStore) -> set[str]:
    """Every file under the store's folder, hidden ones included."""
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


def test_one_bad_file_never_hides_the_others(store: FeedStore, put: Put) -> None:
    """Files that cannot be used are set aside with their problems; every other feed loads."""
    put("orders.json", STREAM)
    put("totals.json", {**TABLE, "enabled": False})
    broken = put("broken.json", "{")
    (store.root / "active" / "folder.json").mkdir()
    (store.root / "active" / "dangling.json").symlink_to("nowhere")
    put("old.json", {**TABLE, "name": "old"}, "archived")
    put(".orders.json", "an editor's leftover")
    put("notes.txt", "not a feed file")

    feeds = store.load()

    assert [feed.name for feed in feeds.active] == ["orders", "totals"]
    assert [feed.name for feed in feeds.enabled] == ["orders"]
    assert [feed.name for feed in feeds.archived] == ["old"]
    assert [file.name for file in feeds.quarantined] == ["broken", "dangling", "folder"]
    assert str(feeds.quarantined[0].error) == (
        f"file {broken}: this is not a feed file\n"
        "  line 1, column 2: a key in double quotes is expected here; the file ends too early"
    )
    assert str(feeds.quarantined[1].error).endswith(
        "this feed file cannot be read\n  no such file or directory"
    )
    assert str(feeds.quarantined[2].error).endswith("this feed file cannot be read\n  is a directory")


def test_an_absent_folder_is_told_with_ways_out(tmp_path: Path) -> None:
    """Running from the wrong folder names the folder, the variable and the command that makes it."""
    with pytest.raises(ConfigError) as caught:
        FeedStore(tmp_path / "feeds").load()

    assert str(caught.value) == (
        f"there is no feeds folder at {tmp_path / 'feeds'}\n"
        "Run from the project's folder, set KSQL_LAKE_FEEDS, or add a feed: ksql-lake feeds add"
    )


def test_an_archived_twin_is_quarantined_and_the_active_one_stays(store: FeedStore, put: Put) -> None:
    """Of two files with one name the active one wins, and the other says why it does not count."""
    put("orders.json", STREAM)
    put("orders.json", STREAM, "archived")

    feeds = store.load()

    assert [feed.name for feed in feeds.active] == ["orders"]
    (twin,) = feeds.quarantined
    assert twin.archived
    told = "is active under the same name; delete or rename one of the two files"
    assert (f"name: {store.root}/active/orders.json {told}",) == twin.error.problems


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("order", "there is no feed named 'order'\nDid you mean 'orders'? All of them: ksql-lake feeds list"),
        ("zzz", "there is no feed named 'zzz'\nAll of them: ksql-lake feeds list"),
        ("ORDERS", "there is no feed named 'ORDERS'\nORDERS is the source of feed orders: name the feed."),
        ("totals", "feed 'totals' is archived\nBring it back with: ksql-lake feeds restore totals"),
    ],
)
def test_an_unknown_name_is_answered_with_what_was_meant(
    store: FeedStore, put: Put, name: str, text: str
) -> None:
    """Typos, source names and archived feeds each have a message of their own."""
    put("orders.json", STREAM)
    put("totals.json", TABLE, "archived")

    with pytest.raises(UnknownFeedError) as caught:
        store.get(name)

    assert text == str(caught.value)


def test_in_an_empty_store_the_way_out_is_to_add(store: FeedStore) -> None:
    """Without any feed there is nothing to list."""
    with pytest.raises(UnknownFeedError) as caught:
        store.get("orders")

    assert str(caught.value) == "there is no feed named 'orders'\nAdd one: ksql-lake feeds add"


def test_a_quarantined_feed_answers_with_its_problems(store: FeedStore, put: Put) -> None:
    """Asking for a feed whose file is broken raises what is wrong with the file."""
    put("orders.json", {**STREAM, "enabled": 1})

    with pytest.raises(FeedError, match="enabled: must be true or false, not 1"):
        store.get("orders")


def test_add_writes_a_file_that_reads_back_the_same(tmp_path: Path) -> None:
    """A new file has the stable key order, ends with a line break, shows what people look for, and loads."""
    store = FeedStore(tmp_path / "new" / "feeds")
    feed = parse_feed(json.dumps({"tags": {"é": "x"}} | STREAM | {"tags": {"domain": "x"}}).encode())

    path = store.add(feed)

    assert store.root / "active" / "orders.json" == path
    assert feed == store.get("orders")
    assert path.read_text() == (
        '{\n  "name": "orders",\n  "kind": "stream",\n  "source": "ORDERS",\n  "enabled": true,\n'
        '  "start_date": "2025-01-01",\n  "timezone": "UTC",\n  "schedule": null,\n'
        '  "tags": {\n    "domain": "x"\n  }\n}\n'
    )
    assert {"active/orders.json"} == files(store)


def test_add_makes_files_that_others_may_read(store: FeedStore) -> None:
    """A feed file is a source file: its mode is what the user's umask gives."""
    (store.root / "plain").touch()

    path = store.add(parse_feed(json.dumps(TABLE).encode()))

    assert stat.S_IMODE((store.root / "plain").stat().st_mode) == stat.S_IMODE(path.stat().st_mode)


def test_add_points_editors_at_a_schema_that_is_there(store: FeedStore) -> None:
    """With a schema file beside `active/`, new feeds refer to it."""
    (store.root / "feed.schema.json").write_text("{}")

    path = store.add(parse_feed(json.dumps(TABLE).encode()))

    assert json.loads(path.read_text())["$schema"] == "../feed.schema.json"
    assert store.get("totals").name == "totals"


@pytest.mark.parametrize("folder", ["active", "archived"])
def test_add_never_takes_a_name_that_is_taken(store: FeedStore, put: Put, folder: str) -> None:
    """A name is refused when an active, archived or broken file has it, in whatever case."""
    path = put("Orders.json", "{", folder)

    with pytest.raises(FeedError, match="there is already a feed file named 'orders'") as caught:
        store.add(parse_feed(json.dumps(STREAM).encode()))

    assert path.read_text() == "{"
    assert ("restore" in caught.value.hint) == (folder == "archived")


def test_disable_and_enable_change_one_key_and_keep_the_file(store: FeedStore) -> None:
    """The user's formatting, the mode and a symbolic link survive; nothing else lies in the folder."""
    text = '{ "name":"orders",\t"kind": "stream",\n\n  "source": "ORDERS", "start_date": "2025-01-01" }\n'
    real = store.root / "real.json"
    real.write_text(text)
    real.chmod(0o640)
    (store.root / "active").mkdir()
    link = store.root / "active" / "orders.json"
    link.symlink_to("../real.json")

    store.disable("orders")

    assert not store.get("orders").enabled
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    disabled = real.read_text()
    assert disabled == text.replace('"ORDERS"', '"ORDERS",\n\n  "enabled": false')
    assert link == store.disable("orders")
    assert disabled == real.read_text()

    store.enable("orders")

    assert disabled.replace("false", "true") == real.read_text()
    assert {"active/orders.json", "real.json"} == files(store)


def test_archive_disables_and_moves_and_restore_brings_back_enabled(store: FeedStore, put: Put) -> None:
    """An archived feed is out of the way and disabled; a restored one is active and enabled again."""
    put("orders.json", STREAM)

    archived = store.archive("orders")

    assert store.root / "archived" / "orders.json" == archived
    assert {"archived/orders.json"} == files(store)
    assert [feed.enabled for feed in store.load().archived] == [False]

    restored = store.restore("orders")

    assert store.root / "active" / "orders.json" == restored
    assert {"active/orders.json"} == files(store)
    assert store.get("orders").enabled


def test_a_proposal_is_no_feed_until_it_is_accepted(store: FeedStore, put: Put) -> None:
    """It lies beside the feeds, is listed nowhere, and becomes active by moving; a taken name is refused."""
    feed = parse_feed(json.dumps({**STREAM, "name": "wanted"}).encode())

    path = store.propose(feed)
    assert path == store.root / "proposed" / "wanted.json"
    assert store.load().files == ()
    with pytest.raises(FeedError, match="exists already"):
        store.propose(feed)
    with pytest.raises(UnknownFeedError, match="Proposed: wanted"):
        store.accept("wnated")
    assert store.accept("wanted") == store.root / "active" / "wanted.json"
    assert store.get("wanted") == feed
    store.propose(feed)
    with pytest.raises(FeedError, match="there is already a feed file named 'wanted'"):
        store.accept("wanted")
    put("bad.json", '{"name": 3', folder="proposed")
    with pytest.raises(FeedError, match=r"bad\.json"):
        store.accept("bad")


def test_archive_and_restore_overwrite_nothing(store: FeedStore, put: Put) -> None:
    """With a file in the way, neither file changes place."""
    put("orders.json", STREAM)
    put("orders.json", "{ mine", "archived")

    with pytest.raises(FeedError, match="exists already and is not overwritten"):
        store.archive("orders")

    assert {"active/orders.json", "archived/orders.json"} == files(store)
    assert store.get("orders").enabled
    assert (store.root / "archived" / "orders.json").read_text() == "{ mine"
    with pytest.raises(UnknownFeedError, match="is not archived"):
        store.restore("orders")


def test_archiving_twice_says_that_it_is_archived(store: FeedStore, put: Put) -> None:
    """The second time the answer is where the feed is now."""
    put("orders.json", STREAM)
    store.archive("orders")

    with pytest.raises(UnknownFeedError, match="feed 'orders' is archived"):
        store.archive("orders")


def test_validate_finds_every_problem_of_every_file(store: FeedStore, put: Put) -> None:
    """Without paths the whole store is checked, archived files included."""
    put("a.json", {**STREAM, "name": "b", "enabled": 1})
    put("orders.json", STREAM)
    put("old.json", "", "archived")

    found = store.validate()

    assert [(file.name, len(file.error.problems)) for file in found] == [("a", 2), ("old", 1)]


def test_validate_takes_files_and_folders_from_anywhere(store: FeedStore, put: Put, tmp_path: Path) -> None:
    """Named files are checked wherever they lie; in the store they also hear about their neighbours."""
    put("orders.json", STREAM)
    twin = put("orders.json", STREAM, "archived")
    outside = tmp_path / "new.json"
    outside.write_text("{}")

    found = store.validate([outside, twin, tmp_path / "nowhere.json", store.root / "active"])

    assert [outside, twin, tmp_path / "nowhere.json"] == [file.path for file in found]
    assert found[2].error.problems == ("no such file or directory",)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file where the folder should be is an error about that path, not a traceback."""
    (tmp_path / "feeds").write_text("")

    with pytest.raises(
        FeedError, match=r"cannot be written: not a directory|cannot be written: file exists"
    ) as caught:
        FeedStore(tmp_path / "feeds").add(parse_feed(json.dumps(TABLE).encode()))

    assert str(tmp_path) in str(caught.value)
    assert [tmp_path / "feeds"] == list(tmp_path.iterdir())


def test_keys_are_changed_and_everything_else_is_kept(store: FeedStore, put: Put) -> None:
    """Changed keys stand where they stood, new ones behind their neighbours; every other character stays."""
    path = put(
        "orders.json",
        '{\n  "name": "orders", "kind": "stream",\n  "source": "ORDERS",\n\n  "start_date": "2025-01-01"\n}\n',
    )

    changed = store.change(
        "orders", {"source": "ORDERS_LAKE", "identity": {"by": "offset", "columns": ["RP", "RO"]}}
    )

    assert changed == path
    assert path.read_text() == (
        '{\n  "name": "orders", "kind": "stream",\n  "source": "ORDERS_LAKE",\n\n  "start_date": "2025-01-01",'
        '\n\n  "identity": {"by": "offset", "columns": ["RP", "RO"]}\n}\n'
    )
    assert store.get("orders").source == "ORDERS_LAKE"


def test_a_change_that_makes_no_feed_is_refused(store: FeedStore, put: Put) -> None:
    """A file is never changed into one that cannot be used."""
    path = put("orders.json", STREAM)
    before = path.read_text()

    with pytest.raises(FeedError, match="by 'offset' needs two `columns`"):
        store.change("orders", {"identity": {"by": "offset"}})
    with pytest.raises(UnknownFeedError):
        store.change("order", {"source": "X"})

    assert path.read_text() == before
