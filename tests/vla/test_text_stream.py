from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.mixture.data_identity import StateError
from oxe_pipeline.vla.image_text import ImageText, TextDataError
from oxe_pipeline.vla.text_examples import open_text_examples
from oxe_pipeline.vla.text_stream import TextStream
from tests.vla.image_texts import captions, picture


class Numbered:
    """Examples that are their numbers; those of `bad` cannot be read."""

    identity = "0" * 32

    def __init__(self, count: int, bad: tuple[int, ...] = ()):
        self.count, self.bad = count, bad
        self.quarantined: list[str] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> ImageText:
        if number in self.bad:
            raise TextDataError("is damaged", dataset="numbers", episode=f"line {number}", field="images")
        return ImageText("<image>", [picture(number)], str(number))


def stream(count: int = 10, *, share=0.5, batch_size=4, seed=0, bad=(), **options) -> TextStream:
    return TextStream(Numbered(count, bad), share=share, batch_size=batch_size, seed=seed, **options)


def targets(texts: TextStream, steps: range) -> list[str]:
    found: list[str] = []
    for step in steps:
        batch = texts.batch(step)
        found += batch["target"] if batch else []
    return found


shares = st.integers(1, 999).map(lambda thousandth: thousandth / 1000)


@given(share=shares, batch_size=st.integers(1, 512), steps=st.integers(1, 10**9))
def test_after_any_number_of_steps_the_share_is_off_by_less_than_one_sample(share, batch_size, steps):
    texts = stream(share=share, batch_size=batch_size)
    count = texts.numbers(steps - 1).stop  # One rank: all texts up to that step.
    exact = Fraction(f"{share:.3f}")
    assert abs(count - exact * (count + steps * batch_size)) < 1
    assert texts.num_samples(steps - 1) == len(texts.numbers(steps - 1))


@given(share=shares, batch_size=st.integers(1, 64), world_size=st.integers(1, 9), step=st.integers(0, 10**6))
def test_the_parts_of_the_ranks_are_the_whole_and_steps_follow_one_another(share, batch_size, world_size, step):
    whole = stream(share=share, batch_size=batch_size)
    ranks = [stream(share=share, batch_size=batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [texts.numbers(step) for texts in ranks]
    assert [number for part in parts for number in part] == list(whole.numbers(step))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert whole.numbers(step + 1).start == whole.numbers(step).stop
    assert {texts.num_samples(step) for texts in ranks} == {whole.num_samples(step)}


@given(count=st.integers(1, 200), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 10**6))
@settings(max_examples=50)
def test_each_example_comes_once_per_epoch_in_another_order(count, seed, epoch):
    texts = stream(count, seed=seed)
    orders = [texts.example_of(range(e * count, (e + 1) * count)).tolist() for e in range(epoch, epoch + 3)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    if count > 20:
        assert all(one != other for one, other in pairwise(orders))


def test_a_batch_is_a_function_of_its_step_in_whatever_order_steps_are_asked_for():
    texts, steps = stream(share=0.4), [3, 4, 5, 0, 4, 4, 90, 2]
    for step in steps:
        batch, alone = texts.batch(step), stream(share=0.4).batch(step)
        assert batch["target"] == alone["target"] and torch.equal(batch["g"], alone["g"])
        assert batch["g"].tolist() == list(texts.numbers(step)) and batch["g"].dtype == torch.int64
        for images, target in zip(batch["images"], batch["target"], strict=True):
            np.testing.assert_array_equal(images[0].numpy(), picture(int(target)))


def test_a_step_without_a_text_is_none():
    texts = stream(share=0.05, batch_size=4)  # 4/19 texts per step.
    counts = [texts.num_samples(step) for step in range(20)]
    assert counts == [0, 0, 0, 0, 1] * 3 + [0, 0, 0, 1, 0]
    assert [texts.batch(step) is None for step in range(20)] == [count == 0 for count in counts]


def test_another_seed_is_another_order_and_two_ranks_make_one_epoch():
    assert targets(stream(40), range(10)) != targets(stream(40, seed=1), range(10))
    ranks = [stream(40, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(targets(ranks[0], range(10)) + targets(ranks[1], range(10)), key=int) == [str(n) for n in range(40)]


def test_an_unreadable_example_stops_the_run_at_its_step_and_not_before():
    texts = stream(8, bad=(5,))
    bad_step = next(step for step in range(2) if 5 in texts.example_of(texts.numbers(step)))
    for step in range(bad_step):
        texts.batch(step)
    with pytest.raises(TextDataError, match="numbers: line 5: images: is damaged"):
        texts.batch(bad_step)


def test_or_the_next_readable_example_takes_its_place_and_is_counted():
    expected = [{"5": "7", "6": "7"}.get(target, target) for target in targets(stream(8), range(4))]
    texts = stream(8, bad=(5, 6), on_corrupt="substitute")
    assert targets(texts, range(4)) == expected
    assert texts.substitutions == {
        "numbers: line 5: images: is damaged": 2,
        "numbers: line 6: images: is damaged": 2,
    }


def test_the_state_says_which_texts_come_and_is_checked(tmp_path):
    examples = open_text_examples(captions(tmp_path, 3))
    texts = TextStream(examples, share=0.5, batch_size=2, seed=7)
    state = texts.state_dict()
    assert state["identity"] == examples.identity
    TextStream(examples, share=0.5, batch_size=2, seed=7, rank=1, world_size=2).check(state)
    for changes, says in (
        ({"share": 0.25}, "share 0.5, this run has 0.25"),
        ({"seed": 8}, "seed 7, this run has 8"),
        ({"batch_size": 4}, "batch_size 2, this run has 4"),
    ):
        with pytest.raises(StateError, match=says):
            TextStream(examples, **{"share": 0.5, "batch_size": 2, "seed": 7, **changes}).check(state)
    other = open_text_examples(captions(tmp_path, 4))
    with pytest.raises(StateError, match=f"identity {examples.identity}, this run has {other.identity}"):
        TextStream(other, share=0.5, batch_size=2, seed=7).check(state)
    with pytest.raises(StateError, match="no state of a text stream"):
        texts.check({"share": 0.5})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"share": 0.0}, "share of texts"),
        ({"share": 1.0}, "share of texts"),
        ({"share": float("nan")}, "share of texts"),
        ({"batch_size": 0}, "batch_size"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"seed": -1}, "seed"),
    ],
)
def test_values_that_do_not_hold_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        stream(**options)


def test_closing_ends_the_reading_threads():
    texts = stream()
    texts.batch(0)
    texts.close()
    with pytest.raises(RuntimeError):
        texts.batch(1)
