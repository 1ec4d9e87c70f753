"""From weights as people write them to weights as samples are drawn: by the size of the data sets, or not.

Balancing is the arithmetic of Octo and OpenVLA (`balance_weights`): share = weight * steps / sum(weight * steps), here
over the train split alone and over steps that can really be drawn: with an overlay those that it leaves, as often as it
repeats them. Temperature is the sampling rule of multilingual models (Arivazhagan et al. 2019, arXiv 1907.05019)
applied to data sets.
"""

from collections.abc import Mapping
from fractions import Fraction

from oxe_pipeline.mixture.config import MixtureConfig
from oxe_pipeline.mixture.shares import WeightError, checked_weight


def effective_weights(config: MixtureConfig, train_steps: Mapping[str, int]) -> dict[int, dict[str, Fraction]]:
    """{sample number: {data set: weight}} with balance or temperature applied; see MixtureConfig. Weights sum to
    anything.

    Exact for balance; a temperature other than 1 gives irrational numbers, rounded to float64. WeightError for a weight
    that is negative or not a number, and for a data set that is weighted by its size but has no train step.
    """
    factors = size_factors(config, train_steps)
    return {
        start: {name: checked_weight(weight, name) * factors[name] for name, weight in weights.items()}
        for start, weights in config.weights_from().items()
    }


def size_factors(config: MixtureConfig, train_steps: Mapping[str, int]) -> dict[str, Fraction]:
    """Data set to what its weight is multiplied by for its size: 1 without balance and temperature."""
    temperature = config.temperature if config.temperature is not None else (1.0 if config.balance else None)
    if temperature is None:
        return dict.fromkeys(train_steps, Fraction(1))
    for name, steps in train_steps.items():
        if not steps:
            raise WeightError(f"data set {name} is to be weighted by its size but has no train step; leave it out")
    if temperature == 1.0:
        return {name: Fraction(steps) for name, steps in train_steps.items()}
    total = sum(train_steps.values())
    return {name: Fraction((steps / total) ** (1.0 / temperature)) for name, steps in train_steps.items()}
