"""Promises about server versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.ksqldb.version import parse_version


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("0.29.0", (0, 29)),
        ("0.24.0-rc3", (0, 24)),
        ("v0.10.2", (0, 10)),
        ("5.5.1", (0, 7)),
        ("7.1.0", (0, 23)),
        ("7.2.0-ccs", (0, 26)),
        ("7.5.1", (0, 29)),
        ("7.9.2", (0, 29)),
        ("8.5.0-0", (0, 29)),
        ("10.0.0", (0, 29)),
        ("4.1.0", None),
        ("", None),
        ("head", None),
    ],
)
def test_platform_numbers_are_read_as_ksqldb_releases(text: str, release: tuple[int, int] | None) -> None:
    """Both numberings mean the same releases, and unreadable texts mean none."""
    version = parse_version(text)
    assert (version.text, version.release) == (text, release)


@given(st.text())
def test_any_text_is_read_and_the_unknown_gets_the_strict_rule(text: str) -> None:
    """No version text fails, and one that says nothing relaxes no proof of completeness."""
    version = parse_version(text)
    assert version.release is not None or version.stream_pulls_say_completed
