"""The tables of fields in docs/report.md, made from the report's own classes.

python -m ksql_lake_tests.report.field_tables        writes them into the page
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path

from ksql_lake.lake.days import Days
from ksql_lake.report import check_model, feed_model, json_schema, lake_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "report.md"
SCHEMA = ROOT / "docs" / "report.schema.json"
BEGIN, END = "<!-- fields: begin -->\n", "<!-- fields: end -->"

CLASSES = (
    lake_model.Report,
    lake_model.Totals,
    feed_model.FeedReport,
    feed_model.ExportPoint,
    feed_model.Freshness,
    feed_model.FailureFacts,
    check_model.CheckFacts,
    check_model.FailedPartitionFacts,
    feed_model.Recency,
    feed_model.OutsideDays,
    feed_model.ColumnPoint,
    feed_model.Coverage,
    Days,
    feed_model.DayPoint,
    feed_model.VersionPoint,
    lake_model.OtherData,
    lake_model.BrokenFeed,
    lake_model.CrossCheck,
    lake_model.Disagreement,
    lake_model.ServerSide,
    lake_model.SourceWithoutFeed,
    lake_model.FeedWithoutSource,
    lake_model.KafkaGaps,
)


def tables() -> str:
    """Return a table per class, in the order one meets them in the document."""
    return "\n".join(_table(kind) for kind in CLASSES)


def schema_text() -> str:
    """Return the JSON Schema as the file holds it."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _table(kind: type) -> str:
    doc = inspect.getdoc(kind) or ""
    sentence = doc.split("\n\n")[0].replace("\n", " ")
    meanings = _attributes(doc)
    lines = [f"**{kind.__name__}**: {sentence}", "", "| field | type | meaning |", "|---|---|---|"]
    lines += [
        f"| `{field.name}` | {_type(str(field.type))} | {meanings[field.name]} |"
        for field in dataclasses.fields(kind)
    ]
    return "\n".join([*lines, ""])


def _type(text: str) -> str:
    text = text.replace("datetime", "time").replace(", ...]", "]").replace("Kind", "str").replace(", ", " to ")
    return (
        text.replace("tuple[", "list of ")
        .replace("]", "")
        .replace("| None", "or null")
        .replace("dict[", "map of ")
    )


def _attributes(doc: str) -> dict[str, str]:
    _, _, part = doc.partition("Attributes:\n")
    joined = re.sub(r"\n {8,}", " ", part)
    return dict(re.findall(r"^ {4}(\w+): (.+)$", joined, re.MULTILINE))


def main() -> None:
    """Write the tables and the schema into docs/."""
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    PAGE.write_text(head + BEGIN + tables() + END + rest.split(END)[1], encoding="utf-8")
    SCHEMA.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
