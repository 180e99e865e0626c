"""`ksql-lake feeds ...`: looking at feed files and changing them."""

from __future__ import annotations

import json

from ksql_lake.feeds import feed_json_schema
from ksql_lake_tests.cli.conftest import STREAM, TABLE, Cli, Project


def test_list_shows_every_feed_and_its_state(cli: Cli, project: Project) -> None:
    """Active, disabled, archived and broken feeds each have their line."""
    project.feed({**STREAM, "schedule": "0 * * * *"})
    project.feed({**TABLE, "enabled": False})
    project.feed({**TABLE, "name": "old"}, folder="archived")
    project.feed("{", file="broken.json")

    said = cli("feeds", "list")

    assert said.code == 0
    assert said.out.splitlines() == [
        "NAME    KIND    SOURCE  ON   SCHEDULE              STATE",
        "broken  -       -       -    -                     broken",
        "old     table   TOTALS  yes  30 1 * * * (default)  archived",
        "orders  stream  ORDERS  yes  0 * * * *             active",
        "totals  table   TOTALS  no   30 1 * * * (default)  disabled",
    ]
    assert said.err == "note: 1 file cannot be used; see: ksql-lake feeds validate\n"


def test_list_as_json_has_the_problems_too(cli: Cli, project: Project) -> None:
    """A script gets the same entries, with paths and with the problems of broken files."""
    project.feed(STREAM)
    project.feed("", file="broken.json")

    said = cli("feeds", "list", "--json")

    assert json.loads(said.out) == [
        {
            "name": "broken",
            "state": "broken",
            "path": "feeds/active/broken.json",
            "problems": ["the file is empty"],
        },
        {
            "name": "orders",
            "kind": "stream",
            "source": "ORDERS",
            "enabled": True,
            "schedule": None,
            "runs_at": "5 * * * *",
            "state": "active",
            "path": "feeds/active/orders.json",
        },
    ]


def test_an_empty_list_says_how_to_begin(cli: Cli) -> None:
    """Without feeds stderr names the next step."""
    said = cli("feeds", "list")

    assert (said.code, said.out) == (0, "")
    assert said.err == "note: there are no feeds yet; add one: ksql-lake feeds add\n"


def test_show_has_every_key(cli: Cli, project: Project) -> None:
    """One feed is shown with its file, its state and the defaults it runs with."""
    project.feed({**STREAM, "checks": {"not_null": ["ID", "TS"]}, "tags": {"domain": "x"}})

    said = cli("feeds", "show", "orders")
    as_json = cli("feeds", "show", "orders", "--json")

    lines = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert lines["path"] == "feeds/active/orders.json"
    assert lines["checks"] == "not_null: ID, TS"
    assert lines["identity"] == "by: row, null_keys: distinct"
    assert lines["compression"] == "zstd"
    assert json.loads(as_json.out)["lookback_days"] == 1


def test_show_of_a_broken_feed_tells_its_problems(cli: Cli, project: Project) -> None:
    """Asking for a feed whose file is broken gives the problems and exit code 2."""
    project.feed({**STREAM, "start_date": 20250101})

    said = cli("feeds", "show", "orders")

    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "error: file feeds/active/orders.json: 1 problem found\n"
        '  start_date: must be a day written "YYYY-MM-DD", not 20250101\n'
    )


def test_validate_prints_one_line_per_problem(cli: Cli, project: Project) -> None:
    """Problems go to stdout as `path: key: what`, for people, editors and grep alike."""
    project.feed(STREAM)
    project.feed({"name": "t", "kind": "table", "retension": 3}, file="t.json")

    said = cli("feeds", "validate")

    assert said.code == 2
    assert said.out == (
        'feeds/active/t.json: source: is missing; the name of the ksqlDB stream or table, e.g. "ORDERS"\n'
        "feeds/active/t.json: retension: is not a key of a table feed. Did you mean 'retention'?\n"
    )
    assert said.err == "2 problems in 1 file\n"


def test_validate_is_quiet_about_good_files(cli: Cli, project: Project) -> None:
    """Good files give exit code 0 and nothing on stdout; named files count alone."""
    path = project.feed(STREAM)
    project.feed("{", file="broken.json")

    said = cli("feeds", "validate", str(path))

    assert (said.code, said.out, said.err) == (0, "", "no problems found\n")


def test_validate_says_where_a_file_has_more_problems_than_it_lists(cli: Cli, project: Project) -> None:
    """A hundred problems of a file are listed; how many others there are is not claimed."""
    project.feed({**TABLE, **{f"unknown_{number}": 1 for number in range(3000)}})

    said = cli("feeds", "validate")

    assert said.code == 2
    *listed, last = said.out.splitlines()
    assert len(listed) == 100
    assert last == "feeds/active/totals.json: ... and more"
    assert said.err == "more than 100 problems in 1 file\n"


def test_validate_as_json(cli: Cli, project: Project) -> None:
    """A script gets files with their problems; the exit code is the same."""
    project.feed("[]", file="t.json")

    said = cli("feeds", "validate", "--json")

    assert said.code == 2
    assert json.loads(said.out) == [
        {"path": "feeds/active/t.json", "name": "t", "problems": ["the file must hold one object: { ... }"]}
    ]


def test_the_life_of_a_feed(cli: Cli, project: Project) -> None:
    """Disable, enable, archive and restore say what happened and where the file is now."""
    project.feed(STREAM)
    project.feed(TABLE)

    assert cli("feeds", "disable", "orders", "totals").out == (
        "disabled: feeds/active/orders.json\ndisabled: feeds/active/totals.json\n"
    )
    assert cli("feeds", "enable", "orders").out == "enabled: feeds/active/orders.json\n"
    assert cli("feeds", "archive", "orders").out == "archived, its data stays: feeds/archived/orders.json\n"
    again = cli("feeds", "archive", "orders")
    assert (
        again.code,
        again.err,
    ) == (2, "error: feed 'orders' is archived\nBring it back with: ksql-lake feeds restore orders\n")
    assert cli("feeds", "restore", "orders").out == "restored and enabled: feeds/active/orders.json\n"
    assert json.loads(cli("feeds", "show", "orders", "--json").out)["enabled"] is True
    project.feed({**TABLE, "name": "wanted"}, folder="proposed")
    assert cli("feeds", "accept", "wanted").out == "accepted: feeds/active/wanted.json\n"


def test_schema_is_printed_or_put_where_editors_find_it(cli: Cli, project: Project) -> None:
    """The JSON Schema goes to stdout, or beside `active/`, again and again."""
    assert json.loads(cli("feeds", "schema").out) == feed_json_schema()
    for _ in range(2):
        assert cli("feeds", "schema", "--write").out == "written: feeds/feed.schema.json\n"
    assert json.loads((project.root / "feeds" / "feed.schema.json").read_text()) == feed_json_schema()


def test_from_the_wrong_folder_the_folder_is_named(cli: Cli, project: Project) -> None:
    """Without a feeds folder every command says which one it looked for."""
    (project.root / "feeds" / "active").rmdir()
    (project.root / "feeds").rmdir()

    for command in (("list",), ("show", "x"), ("archive", "x"), ("validate",)):
        said = cli("feeds", *command)

        assert said.code == 2
        assert said.err.startswith("error: there is no feeds folder at feeds\nRun from the project's folder")
