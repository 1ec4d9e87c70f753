"""Rules over whole episodes, each against the plain sentence it stands for."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.overlays import episode_rules
from oxe_pipeline.overlays.overlay import OverlayError

LISTS = st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=8)
TEXTS = ["pick up the cup", "", "  ", "open the drawer"]


def ids_array(lists) -> pa.ListArray:
    return pa.array(lists, pa.list_(pa.int32()))


def test_unknown_outcomes_stay_unless_success_is_asked_for():
    success = np.array([1, 0, -1], np.int8)
    assert episode_rules.succeeded(success).tolist() == [True, False, False]
    assert episode_rules.not_failed(success).tolist() == [True, False, True]


@given(LISTS)
def test_an_instruction_must_say_something(lists):
    expected = [any(TEXTS[number].strip() for number in ids) for ids in lists]
    assert episode_rules.with_instruction(ids_array(lists), TEXTS).tolist() == expected


@given(LISTS, st.lists(st.booleans(), min_size=4, max_size=4))
def test_all_instructions_of_an_episode_must_be_allowed(lists, allowed):
    expected = [all(allowed[number] for number in ids) for ids in lists]
    assert episode_rules.only_instructions(ids_array(lists), np.array(allowed)).tolist() == expected


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=3), max_size=8))
def test_a_flag_is_found_among_others(lists):
    flags = pa.array(lists, pa.list_(pa.string()))
    assert episode_rules.with_flag(flags, "b").tolist() == ["b" in carried for carried in lists]


def test_listed_episodes_are_found_and_unknown_ids_refused():
    ids = pa.array(["a", "b", "c"])
    assert episode_rules.listed(ids, ["c", "a"], "keep.txt").tolist() == [True, False, True]
    with pytest.raises(OverlayError, match=r"keep.txt: 2 of 3 episode ids are not in the stream, e.g. 'x'"):
        episode_rules.listed(ids, ["a", "y", "x"], "keep.txt")


@given(st.lists(st.fractions(0, 4, max_denominator=6), min_size=1, max_size=6).filter(any))
def test_repeats_keep_the_proportion_of_the_weights_exactly_and_are_the_smallest(weights):
    repeats = episode_rules.repeats_of_weights(weights).tolist()
    assert all(
        a * v == b * w for a, w in zip(repeats, weights, strict=True) for b, v in zip(repeats, weights, strict=True)
    )
    assert np.gcd.reduce(repeats) == 1


def test_weights_that_need_too_many_repeats_are_refused():
    with pytest.raises(OverlayError, match=r"weights from 0.001 to 1.5 .* 1,500 times an epoch, the most is 1,000"):
        episode_rules.repeats_of_weights([Fraction("0.001"), Fraction(3, 2)])


def test_episodes_without_a_weight_have_weight_1():
    weights = episode_rules.weights_of_episodes(pa.array(["a", "b"]), {"b": Fraction(1, 2)}, "w.csv")
    assert weights == [1, Fraction(1, 2)]
