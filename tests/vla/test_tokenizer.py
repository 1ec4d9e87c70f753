import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.vla.tokenizer import ActionTokenizer

TOKENIZER = ActionTokenizer(first_id=259)
inside = st.floats(-1, 1, width=32)


@given(st.lists(inside, min_size=1, max_size=50))
def test_a_round_trip_is_off_by_half_a_bin_at_most(values):
    values = torch.tensor(values)
    assert (TOKENIZER.decode(TOKENIZER.encode(values)) - values).abs().max() <= 1 / 256 + 1e-7


@given(inside, inside)
def test_larger_values_never_get_smaller_ids(one, other):
    low, high = TOKENIZER.encode(torch.tensor(sorted([one, other])))
    assert low <= high


def test_there_are_256_bins_of_equal_width_and_each_is_reached():
    centres = -1 + (torch.arange(256) + 0.5) * 2 / 256
    ids = TOKENIZER.encode(centres)
    assert ids.tolist() == list(range(259, 259 + 256))
    assert torch.equal(TOKENIZER.decode(ids), centres)
    edges = torch.arange(-128, 128) / 128
    assert TOKENIZER.encode(edges).tolist() == ids.tolist(), "an edge belongs to the bin above it"


def test_values_beyond_the_range_take_the_outermost_bins():
    ids = TOKENIZER.encode(torch.tensor([-7.0, -1.0, 1.0, 7.0, float("inf")]))
    assert ids.tolist() == [259, 259, 514, 514, 514]


def test_open_and_closed_grippers_stay_half_a_bin_from_1_and_0():
    decoded = TOKENIZER.decode(TOKENIZER.encode(torch.tensor([0.0, 1.0])))
    assert decoded.tolist() == pytest.approx([1 / 256, 1 - 1 / 256])


def test_nan_is_refused_rather_than_given_a_bin():
    with pytest.raises(ValueError, match="NaN"):
        TOKENIZER.encode(torch.tensor([0.0, float("nan")]))


@pytest.mark.parametrize("wrong", [0, 258, 515])
def test_an_id_outside_the_action_vocabulary_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{wrong} is no action; those are 259 to 514"):
        TOKENIZER.decode(torch.tensor([259, wrong]))
