"""Weights by size: the published arithmetic, recomputed from its formula."""

from fractions import Fraction

import pytest

from oxe_pipeline.mixture.config import MixtureConfig
from oxe_pipeline.mixture.shares import WeightError
from oxe_pipeline.mixture.weights import effective_weights

STEPS = {"a": 900, "b": 100}


def shares(**options) -> dict[str, float]:
    entries = [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]
    weights = effective_weights(MixtureConfig.model_validate({"datasets": entries, **options}), STEPS)[0]
    return {name: float(weight / sum(weights.values())) for name, weight in weights.items()}


def test_weights_stay_as_written_unless_size_is_asked_for():
    assert shares() == {"a": 0.25, "b": 0.75}


def test_balance_multiplies_by_train_steps_exactly():
    assert shares(balance=True) == {"a": 0.75, "b": 0.25}
    assert shares(temperature=1) == shares(balance=True) == shares(balance=True, temperature=1)


def test_temperature_flattens_sizes():
    a, b = 1 * 0.9 ** (1 / 2), 3 * 0.1 ** (1 / 2)
    assert shares(temperature=2) == pytest.approx({"a": a / (a + b), "b": b / (a + b)}, rel=1e-12)
    assert shares(temperature=1e9) == pytest.approx({"a": 0.25, "b": 0.75}, rel=1e-6)


def test_later_weights_are_scaled_by_the_same_sizes():
    config = MixtureConfig.model_validate(
        {
            "balance": True,
            "datasets": [{"name": "a"}, {"name": "b"}],
            "schedule": [{"start": 10, "weights": {"b": 0.1}}],
        }
    )
    assert effective_weights(config, STEPS) == {0: {"a": 900, "b": 100}, 10: {"b": Fraction(10)}}


def test_weighing_a_data_set_without_train_steps_by_its_size_is_refused():
    config = MixtureConfig.model_validate({"balance": True, "datasets": [{"name": "a"}, {"name": "b"}]})
    with pytest.raises(WeightError, match="data set b is to be weighted by its size but has no train step"):
        effective_weights(config, {"a": 5, "b": 0})
