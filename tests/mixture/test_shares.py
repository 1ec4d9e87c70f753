"""Weights to whole-number proportions: exact where they can be, refused by name where they make no sense."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.mixture.shares import MAX_TOTAL, WeightError, exact, quantise


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=3000))
@settings(max_examples=50, deadline=None)
def test_shares_are_kept_to_one_place_of_the_finest_proportion_or_the_weight_is_named(weights):
    names = [f"set_{i}" for i in range(len(weights))]
    fractions = [exact(weight) for weight in weights]
    shares = [fraction / sum(fractions) for fraction in fractions]
    try:
        counts = quantise(weights, names)
    except WeightError as error:
        culprit = next(name for name, share in zip(names, shares, strict=True) if share * MAX_TOTAL < 1)
        assert f"data set {culprit} " in str(error)
        return
    period = sum(counts)
    assert period <= MAX_TOTAL and min(counts) >= 1
    assert quantise(counts) == counts
    assert max(abs(Fraction(c, period) - s) for c, s in zip(counts, shares, strict=True)) < Fraction(1, MAX_TOTAL)


def test_small_fractions_are_exact_and_as_short_as_can_be():
    assert quantise([1, 0.5]) == [2, 1]
    assert quantise([0.1, 0.2, 0.3]) == [1, 2, 3]
    assert quantise([Fraction(1, 3), Fraction(1, 7), 0]) == [7, 3, 0]
    assert quantise([1e6, 1e6]) == [1, 1]
    assert sum(quantise([0.54087122203, 0.8341046294, 2])) == 337497585143
    assert sum(quantise([0.1234567890123456, 0.8341046294, 2])) == MAX_TOTAL


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, -0.5], "weight -0.5 of data set b is negative"),
        ([1, float("nan")], "weight nan of data set b is not a number"),
        ([1, float("inf")], "weight inf of data set b is not a number"),
        ([1, "two"], "weight 'two' of data set b is not a number"),
        ([0, 0], "weights of a, b are zero in total"),
        ([1, 1e-13], "weight 1e-13 of data set b is 1e-13 of the total"),
    ],
)
def test_bad_weights_are_refused_by_name(weights, message):
    with pytest.raises(WeightError, match=message):
        quantise(weights, ["a", "b"])
