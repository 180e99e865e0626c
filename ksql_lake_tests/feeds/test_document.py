"""The text of a feed file: read strictly, changed by one key at a time."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import FeedError
from ksql_lake.feeds.document import parse_document

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("[]", "the file must hold one object: { ... }"),
        (
            '{"a": 1',
            "line 1, column 8: ',' is expected here, or the end of the object or list; the file ends too early",
        ),
        (
            '{\n "a": 1,\n}',
            "line 3, column 1: a key in double quotes is expected here; the ',' before '}' is one too many",
        ),
        ("{'a': 1}", "line 1, column 2: a key in double quotes is expected here; texts need double quotes"),
        ('{"a": True}', "line 1, column 7: a value is expected here; write true"),
        ('{"a" 1}', "line 1, column 6: ':' is expected here, between a key and its value"),
        ('{"a": 1} {}', "line 1, column 10: the file goes on after its object has ended"),
        ('{"a": "x\ty"}', "line 1, column 9: a line break or tab inside a text must be written \\n or \\t"),
        ('{"a": "x}', "line 1, column 7: this text has no closing double quote"),
        ('// hello\n{"a": 1}', "line 1, column 1: a value is expected here; JSON has no comments"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": ' + "[" * 100_000, "values nest far too deep for a feed"),
        ('{"a": ' + "1" * 5000 + "}", "a number has thousands of digits"),
    ],
)
def test_says_where_the_json_is_wrong(text: str, problem: str) -> None:
    """A file that is not JSON is refused with line, column and the usual reason for it."""
    with pytest.raises(FeedError) as caught:
        parse_document(text.encode())

    assert (problem,) == caught.value.problems


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_names_the_other_unicode_encodings(encoding: str) -> None:
    """A file that an editor saved as UTF-16 or UTF-32 is distinguished from a broken one."""
    with pytest.raises(FeedError, match="save it as UTF-8"):
        parse_document('{"a": 1}'.encode(encoding))


def test_says_in_which_line_utf8_breaks() -> None:
    """Bytes that are not UTF-8 are refused with their line."""
    with pytest.raises(FeedError) as caught:
        parse_document(b'{\n"a": "\xe4"}')

    assert caught.value.problems == ("line 2: the file is not UTF-8; save it as UTF-8",)


def test_duplicate_keys_are_problems_with_their_path() -> None:
    """A key that stands twice is reported at every depth, once, by path."""
    document = parse_document(b'{"a": 1, "b": {"c": 1, "c": 2, "c": 3}, "a": 2, "l": [{"x": 1, "x": 1}]}')

    assert [problem.key for problem in document.problems] == ["a", "b.c", "l[0].x"]


def test_a_byte_order_mark_is_read_and_kept() -> None:
    """A byte order mark disturbs nothing and survives a change."""
    document = parse_document(BOM + b'{"name": "x"}')

    assert document.value == {"name": "x"}
    assert document.with_key("enabled", False, after=("name",)).data == BOM + b'{"name": "x","enabled": false}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"enabled":true}', '{"enabled":false}'),
        ('{\r\n\t"enabled"  :  true ,\r\n"z":1}\r\n', '{\r\n\t"enabled"  :  false ,\r\n"z":1}\r\n'),
        ('{\n  "name": "x",\n  "z": 1\n}\n', '{\n  "name": "x",\n  "enabled": false,\n  "z": 1\n}\n'),
        ('{\n  "z": 1\n}\n', '{"enabled": false, \n  "z": 1\n}\n'),
        ("{}", '{"enabled": false}'),
        ('{"z": {"enabled": true}, "enabled": null}', '{"z": {"enabled": true}, "enabled": false}'),
    ],
)
def test_changes_one_key_and_no_other_character(before: str, after: str) -> None:
    """Setting a key keeps indentation, line ends and key order as the user wrote them."""
    assert after == parse_document(before.encode()).with_key("enabled", False, after=("name",)).text


_TEXTS = st.text('aé"\\{}[]:, \n\u20ac\U0001f600', max_size=4)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["name", "enabled", "kind", "x", "{", '"', "\\", "é"])


@given(
    st.dictionaries(_KEYS, _VALUES),
    st.sampled_from([None, 0, 2, "\t"]),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]),
    st.booleans(),
)
def test_any_document_reads_back_with_only_that_key_changed(
    value: dict[str, object], indent: int | str | None, separators: tuple[str, str], ascii_only: bool
) -> None:
    """However a file is formatted, a change touches that key alone."""
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=ascii_only)

    changed = parse_document(text.encode()).with_key("enabled", True, after=("name", "kind"))

    assert {**value, "enabled": True} == json.loads(changed.text)
    assert changed.problems == ()
    assert changed.text == changed.with_key("enabled", True, after=()).text
