"""Markdown made of foreign texts: a renderer shows them, and does nothing else with them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ksql_lake.markdown import block, code, plain

HOSTILE = st.text("`*_[]()!<>&|~#:/.@-\\ \nabw1", max_size=40) | st.sampled_from(
    [
        "![x](http://evil/x.png)",
        "[x](http://evil)",
        "http://evil.example",
        "www.evil.example",
        "<img src=x>",
        "a@b.c",
    ]
)

RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table")


def _shown(text: str) -> str:
    """What a reader of the rendered text sees."""
    return " ".join(
        child.content for token in RENDERER.parse(text) for child in token.children or [token] if child.content
    )


def _tags(text: str) -> set[str]:
    return set(re.findall(r"<(\w+)", RENDERER.render(text)))


@given(HOSTILE)
def test_a_text_stands_for_itself(text: str) -> None:
    """No image, link, markup or HTML comes of it, and no address becomes a link."""
    made = f"x {plain(text)}"

    assert _tags(made) == {"p"}
    assert "".join(_shown(made).split()) == "".join(f"x{text}".split())
    assert not re.search(r"(?<!\\):|(?<!\\)@|www\.", made)


@given(HOSTILE)
def test_a_code_span_holds_it(text: str) -> None:
    """Whatever back-quotes are in it."""
    if text.split():
        assert _tags(code(text)) == {"p", "code"}
        (token,) = [
            child for child in RENDERER.parse(code(text))[1].children or () if child.type == "code_inline"
        ]
        assert token.content == " ".join(text.split())


@given(HOSTILE | st.text("`\n ", max_size=20))
def test_a_block_is_not_ended_by_what_it_holds(text: str) -> None:
    """Nothing of it leaves the fence."""
    (token,) = RENDERER.parse(block(f"a{text}b", "sql"))

    assert token.type == "fence"
    assert token.content.strip() == f"a{text}b"


@pytest.mark.parametrize("text", ["| cell", "a\nb"])
def test_a_text_stays_in_its_cell(text: str) -> None:
    """Neither a bar nor a line break ends a table's cell."""
    assert RENDERER.render(f"| a | b |\n|---|---|\n| {plain(text)} | c |").count("<td>") == 2
