"""The guide pages of the table formats run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ksql_lake.lake import Lake
from ksql_lake.register import FORMATS, Format, register
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "readers"
EXPECTED: dict[Format, str] = {"delta": "1 of 2\n1\n", "iceberg": "1 of 2\nint\n"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_guide_page_runs(
    form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its blocks, one after another, in a project with the sample's feeds, print what they say they do."""
    lake = Lake(tmp_path / "data_lake")
    stream, table = stream_feed(name="transaction_stream"), table_feed(name="merchants")
    for feed, rows in ((stream, [event(1), event(2, day=1)]), (table, [{"ID": 1, "NAME": "a"}])):
        land_rows(lake, feed, rows)
        register(lake.storage, lake.feed(feed).layout, form)
    monkeypatch.chdir(tmp_path)
    text = (GUIDES / f"{form}.md").read_text(encoding="utf-8")

    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)  # noqa: S102 - that is what the page is for

    assert capsys.readouterr().out == EXPECTED[form]
