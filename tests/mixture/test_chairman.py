"""Shares in whole samples: never a whole sample off, at any prefix, for any weights."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.mixture.chairman import SharePlan
from oxe_pipeline.mixture.shares import quantise


def plan_of(weights: list, names: list[str] | None = None) -> SharePlan:
    return SharePlan.from_counts(quantise(weights, names))


def worst_error(plan: SharePlan) -> Fraction:
    """Largest |samples drawn - share * samples| of any data set at any prefix, in whole numbers.

    Between its draws a data set only falls behind, so the extremes lie just after and just before a draw.
    """
    place = np.arange(plan.period, dtype=np.int64)
    count, drawn = plan.count_of_dataset[plan.dataset_of_place], plan.draw_of_place
    ahead = (drawn + 1) * plan.period - count * (place + 1)
    behind = count * place - drawn * plan.period
    return Fraction(int(max(ahead.max(), behind.max())), plan.period)


def naive_worst_error(dataset_of_place: list[int], weights: list[Fraction]) -> Fraction:
    """The same by counting every data set at every prefix, with exact fractions."""
    total, drawn, worst = sum(weights), [0] * len(weights), Fraction(0)
    for place, dataset in enumerate(dataset_of_place, 1):
        drawn[dataset] += 1
        worst = max(worst, *(abs(n - place * w / total) for n, w in zip(drawn, weights, strict=True)))
    return worst


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20).filter(any))
def test_no_prefix_is_a_whole_sample_off_for_exact_weights(weights):
    plan = plan_of(weights)
    positive = sum(weight > 0 for weight in weights)
    bound = 1 - Fraction(1, 2 * positive - 2) if positive > 1 else 0
    assert naive_worst_error(plan.dataset_of_place.tolist() * 2, [Fraction(w) for w in weights]) <= bound
    assert worst_error(plan) <= bound


@given(datasets=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_no_prefix_is_a_whole_sample_off_for_thousands_of_data_sets(datasets, seed):
    plan = plan_of(np.random.default_rng(seed).integers(1, 150, datasets).tolist())
    assert worst_error(plan) < 1
    assert plan.count_of_dataset.min() >= 1


def test_every_place_knows_how_many_came_before_it():
    plan = plan_of([3, 1, 0, 2])
    g = np.arange(60)
    dataset, k = plan.locate(g)
    for d in range(4):
        assert k[dataset == d].tolist() == list(range((dataset == d).sum()))
    for prefix in (0, 1, 5, 6, 7, 59):
        assert plan.counts_before(prefix).tolist() == np.bincount(dataset[:prefix], minlength=4).tolist()


def test_far_sample_numbers_are_found_without_counting_to_them():
    plan = plan_of([1, 0.5])
    dataset, k = plan.locate(np.array([3 * 10**15, 3 * 10**15 + 1]))
    assert dataset.tolist() == [0, 1] and k.tolist() == [2 * 10**15, 10**15]


def test_the_assignment_never_changes():
    assert SharePlan.from_counts([5, 3, 1, 2]).dataset_of_place.tolist() == [0, 1, 0, 3, 0, 1, 0, 2, 1, 0, 3]


def test_a_plan_is_made_once_and_cannot_be_written_to():
    assert plan_of([1, 0.5]) is plan_of([4, 2])
    with pytest.raises(ValueError, match="read-only"):
        plan_of([1, 0.5]).draw_of_place[0] = 1
