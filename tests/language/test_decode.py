import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.language.decode import decode_label


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        ("open the drawer", ("open the drawer",)),
        (b"open the drawer", ("open the drawer",)),
        ("prends la tasse à café".encode(), ("prends la tasse à café",)),
        (np.str_("open"), ("open",)),
        (np.bytes_(b"open"), ("open",)),
        (np.array("open"), ("open",)),
        (np.array(b"open", dtype=object), ("open",)),
        (np.array(["open", "close"], dtype=object), ("open", "close")),
        ([b"open", None, ["close"]], ("open", "close")),
        ({"short": "open", "long": "open the drawer"}, ("open", "open the drawer")),
        (None, ()),
        ([], ()),
        (float("nan"), ()),
        (np.float64("nan"), ()),
    ],
)
def test_every_form_that_readers_meet_becomes_text_without_a_flag(raw, texts):
    assert decode_label(raw) == (texts, ())


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), width=st.integers(0, 40))
def test_padded_utf8_codes_give_the_text_also_beyond_ascii(text, width):
    content = text.encode()
    codes = np.zeros(max(1, len(content)) + width, np.int32)
    codes[: len(content)] = list(content)
    assert decode_label(codes) == ((text,), ("utf8_codes",))


def test_bytes_that_are_not_utf8_are_kept_one_by_one_and_flagged():
    assert decode_label(b"caf\xe9") == (("café",), ("invalid_utf8",))


@pytest.mark.parametrize("raw", [3, 2.5, True, np.int64(7), object(), np.array([300, 5]), [-1, 5]])
def test_what_is_no_text_is_flagged_and_holds_none(raw):
    assert decode_label(raw) == ((), ("undecodable",))


@given(raw=st.text(st.characters()) | st.binary())
def test_any_text_or_bytes_become_text_that_a_file_can_hold(raw):
    (text,), _ = decode_label(raw)
    assert text.encode("utf-8").decode("utf-8") == text
