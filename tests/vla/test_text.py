import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.vla.text import ByteVocabulary, begin_id, build_prompt


def test_the_prompt_is_the_template_around_the_lower_case_instruction():
    assert build_prompt("Pick up the Cup ") == "task: pick up the cup\n"
    assert build_prompt("", template="In: {instruction}?\nOut:") == "In: unknown?\nOut:"


@given(st.text(max_size=200), st.integers(16, 64))
def test_any_text_fits_the_length_and_decodes_to_a_whole_prompt(text, length):
    vocabulary = ByteVocabulary()
    ids = vocabulary.encode(build_prompt(text, max_bytes=length))
    assert len(ids) <= length and max(ids) < vocabulary.size
    decoded = vocabulary.decode([vocabulary.BEGIN, *ids, vocabulary.END, vocabulary.PADDING])
    assert decoded.startswith("task: ") and decoded.endswith("\n") and "\ufffd" not in decoded.replace(text.lower(), "")


def test_a_long_instruction_is_cut_at_a_character_and_keeps_the_end_of_the_template():
    assert build_prompt("ä" * 50, template="<{instruction}>", max_bytes=9) == "<äää>"


def test_a_template_without_room_or_place_for_the_instruction_is_refused():
    with pytest.raises(ValueError, match="lacks"):
        build_prompt("go", template="task:")
    with pytest.raises(ValueError, match="no room"):
        build_prompt("go", template="a very long template {instruction}", max_bytes=10)


def test_an_answer_begins_after_a_newline_or_where_there_is_none_after_the_end_id():
    class WithoutNewline(ByteVocabulary):
        def encode(self, text: str) -> list[int]:
            return super().encode(text.replace("\n", ""))

    assert begin_id(ByteVocabulary()) == ord("\n")
    assert begin_id(WithoutNewline()) == ByteVocabulary.END
