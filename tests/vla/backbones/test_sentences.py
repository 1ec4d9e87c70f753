from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.vla.backbones.hub import load_tokenizer
from oxe_pipeline.vla.backbones.sentences import (
    ImagePart,
    PromptTemplate,
    Seen,
    SentenceStyle,
    SentenceWriter,
    StatePart,
    prompt_parts,
    readable,
    samples_seen,
)
from oxe_pipeline.vla.backbones.tiny import write_tiny
from tests.vla.batches import make_batch

MARK = "<image>"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """One that knows an image token and a begin-of-text token."""
    return load_tokenizer(str(write_tiny("paligemma", Path(tmp_path_factory.mktemp("model")), seed=0)), None)


def writer(tokenizer, prompt: str, *, text_length: int = 200, **style) -> SentenceWriter:
    return SentenceWriter(prompt, tokenizer, SentenceStyle(**style), text_length=text_length)


def test_a_template_is_filled_in_place_with_cameras_in_order_and_the_newest_step_last():
    template = PromptTemplate("a {image_wrist} b {images}{state} {instruction}\n")
    seen = Seen({"primary": [0, 1], "wrist": [1]}, [1])
    wrist, primary = ImagePart("wrist", 1), [ImagePart("primary", 0), ImagePart("primary", 1)]
    assert template.fill("go", seen) == ["a ", wrist, " b ", *primary, wrist, StatePart(1), " go\n"]


def test_what_a_sample_lacks_is_left_out_of_its_sentence():
    template = PromptTemplate("{image_secondary}In: {images}{instruction}")
    assert template.fill("go", Seen({"primary": []}, [0])) == ["In: go"]


def test_cameras_come_in_the_order_of_the_slots_whatever_the_order_in_the_batch():
    batch = dict(reversed(make_batch(size=1).items()))
    assert list(samples_seen(batch)[0].images) == ["primary", "wrist"]


def test_masked_steps_are_not_seen_but_the_newest_state_always_is():
    batch = make_batch(size=2, history=2)
    batch["image_primary_mask"][0, 0] = False
    batch["history_mask"][:] = False
    assert samples_seen(batch)[0] == Seen({"primary": [1], "wrist": [0, 1]}, [1])


@pytest.mark.parametrize("prompt", ["{instruction} {imges}", "{instruction}{image_primry}", "{stat}{instruction}"])
def test_an_unknown_place_is_refused_with_the_nearest_names(prompt):
    with pytest.raises(ValueError, match="is unknown; did you mean"):
        PromptTemplate(prompt)


def test_a_template_without_an_instruction_is_refused():
    with pytest.raises(ValueError, match=r"lacks \{instruction\}"):
        PromptTemplate("{images}go")


def test_instructions_are_lower_cased_and_stripped_and_none_reads_unknown(tokenizer):
    batch = make_batch(size=2)
    batch["instruction"] = ["  Pick UP the Block ", ""]
    parts = writer(tokenizer, "{images}do {instruction}!", image_token=MARK).parts(batch)
    assert [readable(row) for row in parts] == [
        "<image primary><image wrist>do pick up the block!",
        "<image primary><image wrist>do unknown!",
    ]


@settings(max_examples=30, deadline=None)
@given(words=st.text("abc é字", min_size=1, max_size=60), text_length=st.integers(16, 60))
def test_a_long_instruction_is_cut_and_the_template_never(tokenizer, words, text_length):
    batch = {**make_batch(size=1), "instruction": [words + " end"]}
    sentences = writer(tokenizer, "{images}In {instruction}? Out", image_token=MARK, text_length=text_length)
    text = readable(sentences.parts(batch)[0]).removeprefix("<image primary><image wrist>")
    stated = (words + " end").strip()
    assert text.startswith("In ") and text.endswith("? Out") and stated.startswith(text[3:-5])
    ids = sum(len(piece) for piece in sentences.write(batch)[0] if isinstance(piece, list))
    assert ids <= text_length
    longer = "In " + stated[: len(text[3:-5]) + 1] + "? Out"
    assert text[3:-5] == stated or len(tokenizer.encode(longer, add_special_tokens=False)) + 1 > text_length


def test_a_template_that_leaves_no_room_is_refused_before_any_batch(tokenizer):
    with pytest.raises(ValueError, match="no room for an instruction in text_length 5"):
        writer(tokenizer, "a prompt of many words {instruction}", text_length=5)


def test_a_sentence_has_the_ids_of_its_text_with_the_familys_image_token_in_it(tokenizer):
    sentences = writer(
        tokenizer,
        "see {images}then {state}do {instruction}\n",
        image_token=MARK,
        before_image="<s",
        after_image=">",
    )
    pieces = sentences.write(make_batch(size=1))[0]
    text = f"see <s{MARK}><s{MARK}>then {MARK}do push block 0\n"
    mark = tokenizer.convert_tokens_to_ids(MARK)
    ids = [token for piece in pieces for token in (piece if isinstance(piece, list) else [mark])]
    assert ids == [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
    assert [piece for piece in pieces if not isinstance(piece, list)] == [
        ImagePart("primary", 0),
        ImagePart("wrist", 0),
        StatePart(0),
    ]


def test_the_begin_of_text_id_stands_first_or_before_the_first_text_as_the_style_says(tokenizer):
    batch, begin = make_batch(size=1), tokenizer.bos_token_id
    first = writer(tokenizer, "{images}{instruction}", image_token=MARK, begin="first").write(batch)[0]
    before_text = writer(tokenizer, "{images}{instruction}", image_token=MARK, begin="before_text").write(batch)[0]
    words = tokenizer.encode("push block 0", add_special_tokens=False)
    images = [ImagePart("primary", 0), ImagePart("wrist", 0)]
    assert first == [[begin], *images, words]
    assert before_text == [*images, [begin, *words]]


def test_without_an_image_token_every_text_is_tokenised_alone(tokenizer):
    pieces = writer(tokenizer, "look {image_wrist}at {instruction}").write(make_batch(size=1))[0]
    alone = [tokenizer.encode(text, add_special_tokens=False) for text in ("look ", "at push block 0")]
    assert pieces == [[tokenizer.bos_token_id], alone[0], ImagePart("wrist", 0), alone[1]]


def test_an_instruction_that_spells_the_image_token_makes_no_image(tokenizer):
    batch = {**make_batch(size=1), "instruction": [f"push {MARK}block"]}
    pieces = writer(tokenizer, "{image_wrist}{instruction}", image_token=MARK).write(batch)[0]
    assert [piece for piece in pieces if not isinstance(piece, list)] == [ImagePart("wrist", 0)]


def test_the_marks_of_a_prompt_are_its_images_in_order():
    images = [None, None]
    assert prompt_parts("<image><image>what?", images) == [ImagePart(None, 0), ImagePart(None, 1), "what?"]
    assert prompt_parts("a<image>b", [None]) == ["a", ImagePart(None, 0), "b"]
    assert prompt_parts("only words", []) == ["only words"]


@pytest.mark.parametrize(("prompt", "images"), [("<image> what?", 0), ("what?", 1), ("<image><image>", 1)])
def test_a_prompt_whose_marks_and_images_differ_in_number_is_named(prompt, images):
    with pytest.raises(ValueError, match=f"prompt {prompt!r} has .* marks and {images} images".replace("?", r"\?")):
        prompt_parts(prompt, [None] * images)


def test_tokens_around_images_need_an_image_token():
    with pytest.raises(ValueError, match="need an image_token"):
        SentenceStyle(before_image="<fake>")
