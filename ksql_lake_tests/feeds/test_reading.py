"""Bytes of a feed file become a feed, or all of their problems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import FeedError
from ksql_lake.feeds import StreamFeed, TableFeed, parse_feed
from ksql_lake.feeds.store import KEY_ORDER
from ksql_lake.feeds.validation import KNOWN_FINDINGS

STREAM: dict[str, object] = {"name": "orders", "kind": "stream", "source": "ORDERS", "start_date": "2025-01-01"}
TABLE = {"name": "totals", "kind": "table", "source": "TOTALS"}


def problems(raw: Mapping[str, object], **more: Any) -> list[str]:
    """The problems of a feed file with this content."""
    with pytest.raises(FeedError) as caught:
        parse_feed(json.dumps(raw).encode(), **more)
    return list(caught.value.problems)


def test_reads_both_kinds() -> None:
    """The keys without defaults are enough for a feed of either kind."""
    stream = parse_feed(json.dumps(STREAM).encode(), file_name="orders.json")
    table = parse_feed(json.dumps({**TABLE, "$schema": "../feed.schema.json"}).encode())

    assert isinstance(stream, StreamFeed)
    assert date(2025, 1, 1) == stream.start_date
    assert isinstance(table, TableFeed)
    assert table.retention == 7


FINDINGS: dict[str, tuple[dict[str, object], str]] = {
    "missing": ({"start_date": ...}, 'start_date: is missing; the first day to export, e.g. "2025-01-31"'),
    "extra_forbidden": (
        {"lookback": 1},
        "lookback: is not a key of a stream feed. Did you mean 'lookback_days'?",
    ),
    "string_type": ({"description": None}, "description: must be a text, not null"),
    "bool_type": ({"enabled": "yes"}, 'enabled: must be true or false, not "yes"'),
    "int_type": ({"lookback_days": "1"}, 'lookback_days: must be a whole number, not "1"'),
    "float_type": (
        {"checks": {"max_age_hours": "26"}},
        'checks.max_age_hours: must be a number, not "26"',
    ),
    "tuple_type": ({"columns": "A"}, 'columns: must be a list [ ... ], not "A"'),
    "dict_type": ({"tags": []}, "tags: must be an object { ... }, not []"),
    "model_type": ({"identity": "row"}, 'identity: must be an object { ... }, not "row"'),
    "date_type": ({"start_date": 20250101}, 'start_date: must be a day written "YYYY-MM-DD", not 20250101'),
    "date_parsing": (
        {"start_date": "2025-02-30"},
        'start_date: must be a day written "YYYY-MM-DD", not "2025-02-30"',
    ),
    "literal_error": (
        {"identity": {"by": "keys"}},
        "identity.by: must be 'row', 'key' or 'offset', not \"keys\". Did you mean 'key'?",
    ),
    "string_pattern_mismatch": (
        {"compression": "gzip"},
        "compression: must be 'zstd', 'zstd:1' to 'zstd:22', 'snappy', 'lz4' or 'none', not \"gzip\"",
    ),
    "string_too_short": ({"columns": ["A", ""]}, "columns[1]: must not be empty"),
    "too_short": ({"columns": []}, "columns: must name at least one; null means all"),
    "greater_than": ({"checks": {"max_age_hours": 0}}, "checks.max_age_hours: must be above 0, not 0"),
    "greater_than_equal": (
        {"start_date": "1969-12-31"},
        'start_date: must be at least 1970-01-01, not "1969-12-31"',
    ),
    "less_than_equal": ({"lookback_days": 367}, "lookback_days: must be at most 366, not 367"),
    "value_error": ({"schedule": "0 25 * * *"}, "schedule: '25' is not a valid hour (0-23)"),
}


@pytest.mark.parametrize("finding", sorted(KNOWN_FINDINGS))
def test_every_finding_has_its_words(finding: str) -> None:
    """Each kind of finding has words of its own, under the key that it concerns."""
    change, expected = FINDINGS[finding]
    raw = {key: value for key, value in {**STREAM, **change}.items() if value is not ...}

    assert [expected] == problems(raw)


NAME_RULE = "must start with a lower-case letter and go on with lower-case letters, digits or '_', at most 100"
SOURCE_RULE = "must be the name of a ksqlDB stream or table: letters, digits, '_' and '-'"
RESERVED = "is a reserved word in Dagster; choose another"
TAG_RULE = "must use at most 63 letters, digits, '_', '-', '.'"
ZONES = "Did you mean 'Europe/Berlin', 'Europe/Dublin' or 'Europe/Belfast'?"
CHECK_KEYS = "The keys are max_age_hours, min_records, not_null, severity, unique."


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "Orders"}, f'name: {NAME_RULE}, not "Orders"'),
        (
            {"name": "output"},
            f"name: 'output' {RESERVED}, e.g. 'output_feed'",
        ),
        ({"name": "class"}, f"name: 'class' {RESERVED}, e.g. 'class_feed'"),
        ({"source": "MY ORDERS"}, f'source: {SOURCE_RULE}, not "MY ORDERS"'),
        ({"timezone": "Europe/Berln"}, f"timezone: 'Europe/Berln' is not an IANA time zone. {ZONES}"),
        ({"timezone": "+99"}, "timezone: '+99' is not an IANA time zone. Examples: UTC, Europe/Berlin."),
        ({"retention": 3}, "retention: is a key of table feeds only; leave it out of a stream feed"),
        (
            {"checks": {"min_record": 1}},
            "checks.min_record: is not a key of `checks`. Did you mean 'min_records'?",
        ),
        ({"checks": {"zzz": 1}}, f"checks.zzz: is not a key of `checks`. {CHECK_KEYS}"),
        (
            {"checks": {"severity": {"volume": "warm"}}},
            (
                "checks.severity.volume: must be 'off', 'warn', 'error' or 'block', not \"warm\". "
                "Did you mean 'warn'?"
            ),
        ),
        ({"checks": {"severity": {"shrinkage": "off"}}}, "checks.severity: a stream has no check shrinkage"),
        ({"tags": {"a": 1}}, "tags.a: must be a text, not 1"),
        ({"tags": {"a b": "c"}}, f"tags: 'a b': 'c' {TAG_RULE}"),
        ({"owners": ["me"]}, "owners[0]: 'me' must be an e-mail address or 'team:name'"),
        (
            {"identity": {"by": "key"}},
            "identity: by 'key' needs `columns`: the names that are unique per event",
        ),
        (
            {"identity": {"by": "offset", "columns": ["P"]}},
            "identity: by 'offset' needs two `columns`: Kafka partition, then offset",
        ),
        (
            {"identity": {"columns": ["P"]}},
            "identity: by 'row' takes no `columns`; leave them out, or set by 'key'",
        ),
        (
            {"extraction": "continue"},
            (
                '"extraction": "continue" needs `positions`: {"partition": "P", "offset": "O"}, the columns in '
                "which a derived stream carries ROWPARTITION and ROWOFFSET of its source (`ksql-lake feeds "
                "prepare` makes one)"
            ),
        ),
        ({"positions": 3}, "positions: must be an object { ... }, not 3"),
        ({"positions": {"partition": "P"}}, "positions.offset: is missing"),
        (
            {"positions": {"partition": "P", "offset": "O", "of": "X"}},
            "positions.of: is not a key of `positions`. The keys are offset, partition.",
        ),
        (
            {"positions": {"partition": "P", "offset": "O"}, "identity": {"by": "row"}},
            "`positions` set the row identity: leave `identity` out, or name the same two by 'offset'",
        ),
        (
            {"positions": {"partition": "ROWPARTITION", "offset": "O"}},
            "positions: ROWPARTITION is not a column; name the derived stream's copy of it, e.g. 'P'",
        ),
        ({"positions": {"partition": "P", "offset": "P"}}, "positions: 'P' is named 2 times"),
        ({"description": "\ud800"}, "a text holds half a character (a lone \\ud800 to \\udfff)"),
        ({"$schema": 7}, "$schema: must be a text: the address of the JSON Schema"),
        ({"kind": "streem"}, "kind: must be 'stream' or 'table', not \"streem\". Did you mean 'stream'?"),
        ({"kind": 7}, "kind: must be 'stream' or 'table', not 7"),
    ],
)
def test_tells_the_rule_and_the_way_out(change: Mapping[str, object], expected: str) -> None:
    """The message states the broken rule, what was found and what may have been meant."""
    assert [expected] == problems({**STREAM, **change})


def test_reports_all_problems_of_a_file_at_once() -> None:
    """Types, unknown keys, rules between keys, doubled keys and the file's name come in one error."""
    text = (
        '{"name": "worse", "kind": "stream", "soruce": "X", "start_date": "soon", "columns": ["year"],'
        ' "lookback_days": 1, "lookback_days": 2, "rename": {"B": "RowTime"}}'
    )

    with pytest.raises(FeedError) as caught:
        parse_feed(text.encode(), file_name="bad.json")

    keys = [problem.split(":")[0] for problem in caught.value.problems]
    assert sorted(keys) == sorted(
        ["lookback_days", "source", "soruce", "start_date", "rename", "columns[0]", "rename.B", "name"]
    )
    assert str(caught.value).startswith("8 problems found\n  lookback_days: this key occurs more than once")


def test_without_a_kind_the_rest_is_still_checked() -> None:
    """A missing `kind` hides neither unknown keys nor wrong values of the keys both kinds have."""
    found = problems(
        {"name": "Z", "knd": "stream", "foo": 1, "enabled": 3, "start_date": 7, "columns": ["A", "A"]}
    )

    assert found == [
        'kind: is missing; write "stream" or "table"',
        "knd: is not a key of a feed. Did you mean 'kind'?",
        "foo: is not a key of a feed",
        f'name: {NAME_RULE}, not "Z"',
        'source: is missing; the name of the ksqlDB stream or table, e.g. "ORDERS"',
        "enabled: must be true or false, not 3",
        "columns: 'A' is named 2 times",
    ]


def test_the_file_is_called_like_the_feed() -> None:
    """A file whose name is not the feed's is refused; the message says if the feed has another file."""
    text = json.dumps(TABLE).encode()

    for file_name, others, expected in [
        ("other.json", (), "name: is 'totals', but the file is called 'other.json'; the two must agree"),
        ("totals.JSON", (), "name: is 'totals', but the file is called 'totals.JSON'; the two must agree"),
        (
            "copy.json",
            ("totals.json",),
            "name: is 'totals', but the file is called 'copy.json'; 'totals.json' is another feed already",
        ),
    ]:
        with pytest.raises(FeedError) as caught:
            parse_feed(text, file_name=file_name, others=others)

        assert (expected,) == caught.value.problems


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('aé"\\-:5 \n', max_size=5)
    | st.sampled_from(
        ["row", "key", "stream", "table", "A", "year", "ROWTIME", "zstd", "0 * * * *", "2025-01-01"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["by", "columns", "min_records", "max_age_hours", "not_null", "unique", "A", "x", ""]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*KEY_ORDER, "other"]), _JSON))
def test_whatever_stands_in_a_file_is_told_to_people(change: dict[str, object]) -> None:
    """Any JSON under any key gives a feed or problems in our own words: no crash, no jargon, no address."""
    told: FeedError | None = None
    try:
        parse_feed(json.dumps({**STREAM, **change}).encode())
    except FeedError as error:
        told = error

    if told is not None:
        text = str(told).lower()
        assert told.problems
        for jargon in ("input should", "pydantic", "http", "validation", "cannot be used:"):
            assert jargon not in text
