"""The JSON Schema that editors use."""

from __future__ import annotations

import json

from ksql_lake.feeds import StreamFeed, TableFeed, feed_json_schema


def test_is_plain_json_with_every_key_described() -> None:
    """An editor gets completion and a hover text for each key of both kinds, and red lines for unknown ones."""
    schema = json.loads(json.dumps(feed_json_schema()))

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for model in (StreamFeed, TableFeed):
        part = schema["$defs"][model.__name__]
        assert {"$schema", *model.model_fields} == set(part["properties"])
        assert all(key.get("description") for key in part["properties"].values())
        assert part["additionalProperties"] is False


def test_tells_the_kinds_apart() -> None:
    """`kind` decides which keys an editor offers."""
    assert feed_json_schema()["discriminator"]["propertyName"] == "kind"
