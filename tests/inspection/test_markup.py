"""Whatever text goes in, the page stays the page, and its reader sees the text."""

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.inspection.markup import Markup, escaped, foreign, joined, number, share, table, tag
from tests.inspection.html_reading import PageReader


@given(st.text())
def test_any_text_is_read_back_as_it_was_written(text):
    made = tag("p", text, title=text)
    readable = "".join(c for c in html.unescape(escaped(text)))
    reader = PageReader(made.encode())
    assert [name for name, _ in reader.tags] == ["p"]
    assert reader.all("p")[0]["title"] == readable
    assert len(readable) == len(text)
    assert all(a == b or b == "\ufffd" for a, b in zip(text, readable, strict=True))


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\r", "\x85", "\ud800", "\ufffe"])
def test_characters_that_html_forbids_are_replaced(character):
    assert escaped(f"a{character}b") == "a\ufffdb"


def test_children_are_flattened_and_markup_is_kept():
    assert joined("<", None, [tag("b", "x"), [1, Markup("&amp;")]]) == "&lt;<b>x</b>1&amp;"


def test_attributes_follow_html():
    made = tag("details", "x", class_="a", aria_label="b", open=True, hidden=False, lang=None)
    assert made == '<details class="a" aria-label="b" open>x</details>'
    assert tag("img", src="data:,", alt="") == '<img src="data:," alt="">'


def test_foreign_text_is_cut_with_an_ellipsis_and_isolated():
    assert foreign("abcdef", most=4) == "<bdi>abc…</bdi>"
    assert foreign("abcd", most=4) == "<bdi>abcd</bdi>"


def test_a_table_has_caption_and_headed_columns_and_rows():
    made = PageReader(table("Kinds", ("kind", "count"), [("a<b", "3")], numeric=(1,)).encode())
    assert made.text == "Kinds kind count a<b 3"
    assert [cell["scope"] for cell in made.all("th")] == ["col", "col", "row"]
    assert [cell.get("class") for cell in made.all("td")] == ["n"]
    assert made.all("div")[0]["aria-label"] == "Kinds"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.123"),
        (-2.0, "\N{MINUS SIGN}2"),
        (0.0, "0"),
        (-0.0, "0"),
        (12345.6, "12,346"),
        (1e-9, "1e\N{MINUS SIGN}09"),
        (1.5e9, "1.5e+09"),
    ],
)
def test_numbers_are_short(value, shown):
    assert number(value) == shown


def test_numbers_that_are_not_finite_say_so():
    assert {number(float(word)) for word in ("nan", "inf", "-inf")} == {"not finite"}


@pytest.mark.parametrize(
    ("part", "whole", "shown"), [(0, 0, "0 %"), (0, 9, "0 %"), (1, 1000, "<1 %"), (1, 3, "33 %"), (999, 1000, ">99 %")]
)
def test_a_share_never_rounds_something_to_nothing_or_to_all(part, whole, shown):
    assert share(part, whole) == shown
