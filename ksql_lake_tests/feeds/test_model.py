"""What the model lets through can become a path, a Dagster asset and a SQL view."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ksql_lake.feeds.model import FEED_ADAPTER, Identity, PositionNames, StreamFeed, TableFeed
from ksql_lake.feeds.store import KEY_ORDER

STREAM = {"name": "orders", "kind": "stream", "source": "ORDERS", "start_date": "2025-01-01"}


def test_key_order_names_every_key_once() -> None:
    """The order in which files are written knows all keys of both kinds."""
    keys = {"$schema", *StreamFeed.model_fields, *TableFeed.model_fields}

    assert keys == set(KEY_ORDER)
    assert len(keys) == len(KEY_ORDER)


def test_feeds_made_in_code_are_held_to_the_same_column_rules() -> None:
    """A clash between column names is also refused when no file is involved."""
    with pytest.raises(ValidationError, match="'Year' is a partition column of the lake"):
        FEED_ADAPTER.validate_python({**STREAM, "rename": {"A": "Year"}})


def test_lake_name_follows_rename() -> None:
    """A renamed column has its new name in the lake, the others keep theirs."""
    feed = FEED_ADAPTER.validate_python({**STREAM, "rename": {"A": "amount"}})

    assert feed.lake_name("A") == "amount"
    assert feed.lake_name("B") == "B"


def test_a_feed_knows_its_zone() -> None:
    """The zone follows from the file's key."""
    stream = StreamFeed(
        name="s",
        kind="stream",
        source="S",
        start_date=date(2025, 1, 1),
        timezone="Europe/Berlin",
        identity=Identity(),
    )

    assert stream.zone.key == "Europe/Berlin"


def test_positions_say_what_a_row_is() -> None:
    """A feed that names its positions has identity `offset` by them, whatever reads it, and may say so."""
    positions = {"partition": "P", "offset": "O"}
    said = {**STREAM, "identity": {"by": "offset", "columns": ["P", "O"]}}
    for extraction in ("continue", "pull", "push"):
        for raw in (STREAM, said):
            feed = FEED_ADAPTER.validate_python({**raw, "extraction": extraction, "positions": positions})

            assert isinstance(feed, StreamFeed)
            assert feed.identity == Identity(by="offset", columns=("P", "O"))
            assert feed.positions == PositionNames(partition="P", offset="O")
            assert feed.positions.identity == feed.identity


def test_a_table_is_never_read_on_from_an_offset() -> None:
    """`continue` is of streams: a table has neither `positions` nor rows that only come once."""
    with pytest.raises(ValidationError, match="'pull' or 'push'"):
        FEED_ADAPTER.validate_python({"name": "t", "kind": "table", "source": "T", "extraction": "continue"})


@given(
    st.from_regex(r"\A[a-z][a-z0-9_]{0,12}\Z")
    | st.sampled_from(["type", "class", "config", "output", "id", "none"]),
    st.dictionaries(st.text("aZ9_.-/ ", max_size=4), st.text("aZ9_.-/ ", max_size=4), max_size=2),
    st.lists(st.sampled_from(["team:a-b_c", "team:", "me@example.org", "a@b", "x", "team:a b"]), max_size=2),
)
def test_dagster_accepts_every_name_tag_and_owner_that_passes(
    name: str, tags: dict[str, str], owners: list[str]
) -> None:
    """No feed that passes here can keep Dagster's code location from loading."""
    try:
        feed = FEED_ADAPTER.validate_python({**STREAM, "name": name, "tags": tags, "owners": owners})
    except ValidationError:
        return

    @dg.asset(name=feed.name, tags=feed.tags, owners=list(feed.owners))
    def made() -> None: ...

    assert dg.AssetKey([name]) == made.key
