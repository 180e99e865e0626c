"""Recordings of running servers, asked again: the same answers, or a line of `docs/devserver.md` says why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.devserver import recorded_objects
from ksql_lake_tests.devserver.conversation import NO_DELAY, Client
from ksql_lake_tests.devserver.replaying import Answer, Recording, recordings, replay

PAGE = Path(__file__).parents[2] / "docs" / "devserver.md"
_DIFFERENCES = PAGE.read_text("utf-8").partition("## Where it differs")[2]
LISTED = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", _DIFFERENCES, re.MULTILINE))
MOST = 20
"""How many differences are a short list."""
OLDER = (
    "info", "show_streams", "show_tables", "describe", "describe_table", "describe_windowed", "show_queries",
    "describe_unknown", "stream_pull_empty", "stream_pull_empty_topic", "stream_pull_offsets",
    "table_pull_empty", "session_pull", "plain_pull", "unknown_source", "unknown_column",
)  # fmt: skip
"""What was asked of older servers and has no rows in its answer."""


def differing(url: str, asked: list[Recording]) -> Iterator[tuple[str, Answer, Answer]]:
    """Name, recorded answer and own answer where they are not the same."""
    for recording in asked:
        wanted, got = recording.answer, replay(url, recording)
        chunked = recording.response.get("chunks") is not None
        if (wanted.status, wanted.headers, wanted.body) != (got.status, got.headers, got.body) or (
            chunked and wanted.chunks != got.chunks
        ):
            yield recording.name, wanted, got


def unexpected(url: str, asked: list[Recording], prefix: str = "") -> dict[str, object]:
    """Differences that the page does not list, and lines of the page that are no difference any more."""
    found = {prefix + name: (wanted, got) for name, wanted, got in differing(url, asked)}
    names = {prefix + recording.name for recording in asked}
    gone = {name: "is answered as recorded" for name in LISTED if name in names and name not in found}
    return {**{name: both for name, both in found.items() if name not in LISTED}, **gone}


def one_node(file: str) -> list[Recording]:
    """Recordings of one server that runs and goes on running."""
    return [item for item in recordings(file) if not item.name.startswith(("F ", "G "))]


def test_everything_an_exporter_asks_is_answered_as_by_a_running_server() -> None:
    """Same status, headers, chunks and bodies, for statements, pulls, pushes and errors."""
    with DevServer.start(arguments=["--server-version", "8.0.7"]) as server:
        recorded_objects.make(Client(server.url))
        assert unexpected(server.url, one_node("8.0.7.jsonl")) == {}


def test_the_properties_that_keep_an_export_safe_are_answered_as_by_a_running_server() -> None:
    """The older writer, isolation, time-outs, offsets of a repartition topic, a broker's session limit."""
    asked = one_node("8.0.7-safe.jsonl")
    names = [item.name for item in asked]
    later = names.index("safe: table pull of an aggregate by another column")
    limited = next(number for number, name in enumerate(names) if name.startswith("session limit"))
    with DevServer.start(arguments=["--server-version", "8.0.7"]) as server:
        client = Client(server.url)
        recorded_objects.make_safe(client)
        assert unexpected(server.url, asked[:later]) == {}
        recorded_objects.make_later(client)
        assert unexpected(server.url, asked[later:limited]) == {}
        client.faults({"kind": "session_limit", "limit_ms": 60_000})
        assert unexpected(server.url, asked[limited:]) == {}


def test_continuation_tokens_are_answered_as_by_a_running_server() -> None:
    """From the start, in the middle, at and beyond the end, with either writer; and what is no token."""
    # A test that stands still for this long would be sent one token more.
    arguments = ["--server-version", "8.0.7", "--token-seconds", "3", *NO_DELAY]
    with DevServer.start(arguments=arguments) as server:
        recorded_objects.make_tokens(Client(server.url))
        assert unexpected(server.url, one_node("8.0.7-tokens.jsonl")) == {}


@pytest.mark.parametrize("release", ["7.9.8", "7.5.1", "7.3.5", "7.2.2", "0.24.0", "7.1.1", "7.0.1"])
def test_older_releases_answer_as_they_do(release: str) -> None:
    """Heads, writers, statements and refusals of each release; answers with rows are left out."""
    known = {item.name: item for item in recordings("older-servers.jsonl") if item.server == release}
    with DevServer.start(arguments=["--server-version", release]) as server:
        recorded_objects.make_older(Client(server.url), known)
        asked = [known[name] for name in OLDER if name in known]
        assert unexpected(server.url, asked, f"{release}: ") == {}


def test_the_list_of_differences_is_short() -> None:
    """Every line has a reason, and names a recording."""
    names = {item.name for file in ("8.0.7.jsonl", "8.0.7-safe.jsonl") for item in one_node(file)}
    older = {f"{item.server}: {item.name}" for item in recordings("older-servers.jsonl")}

    assert set(LISTED) <= names | older
    assert all(len(reason) > 20 for reason in LISTED.values())
    assert len(LISTED) <= MOST
