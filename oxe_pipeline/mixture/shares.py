"""Weights as people write them to whole numbers in the same proportion, by exact arithmetic."""

import math
from collections.abc import Sequence
from fractions import Fraction

MAX_TOTAL = 1 << 40
"""Finest proportion: whole-number weights sum to this at most, and a share below 1 / MAX_TOTAL is refused. Rounding to
it moves a share by one sample in a million million."""


class WeightError(ValueError):
    """Weights that no mixture can be made of: which data set, which value, and the remedy, in one line."""


def exact(weight: float | Fraction) -> Fraction:
    """The number as it is written: 0.1 becomes 1/10, not its binary neighbour. Raises ValueError unless finite."""
    if isinstance(weight, Fraction | int):
        return Fraction(weight)
    if not math.isfinite(weight):
        raise ValueError(f"{weight!r} is not a finite number")
    return Fraction(repr(float(weight)))


def quantise(weights: Sequence[float | Fraction], names: Sequence[str] | None = None) -> list[int]:
    """Whole numbers of places in the same proportion as the weights, as few as hold it.

    Exact when the proportion needs MAX_TOTAL places or fewer, as 1 : 0.5 does and most written numbers. Otherwise there
    are MAX_TOTAL places, dealt by largest remainder: each share is then off by less than 1 / MAX_TOTAL. WeightError for
    a negative or non-finite weight, for a total of zero, and for a positive share that is below one place.
    """
    names = names or [f"number {number}" for number in range(len(weights))]
    fractions = [checked_weight(weight, name) for weight, name in zip(weights, names, strict=True)]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [fraction.numerator * (scale // fraction.denominator) for fraction in fractions]
    divisor = math.gcd(*whole)
    if not divisor:
        raise WeightError(
            f"the weights of {', '.join(names[:8]) or 'no data set'} are zero in total; give one a weight > 0"
        )
    whole = [value // divisor for value in whole]
    total = sum(whole)
    if total <= MAX_TOTAL:
        return whole
    for value, name, fraction in zip(whole, names, fractions, strict=True):
        if 0 < value * MAX_TOTAL < total:
            raise WeightError(
                f"weight {float(fraction):g} of data set {name} is {value / total:.3g} of the total, below the least "
                f"share, 1 in {MAX_TOTAL}; raise it above {float(sum(fractions)) / MAX_TOTAL:.3g} or leave it out"
            )
    places, remainders = zip(*(divmod(value * MAX_TOTAL, total) for value in whole), strict=True)
    counts = list(places)
    # Ties go to the earlier data set, so that the same weights give the same places.
    for index in sorted(range(len(counts)), key=lambda i: (-remainders[i], i))[: MAX_TOTAL - sum(counts)]:
        counts[index] += 1
    # Reduced once more, so that quantising the result gives the result: saved proportions stay what they are.
    divisor = math.gcd(*counts)
    return [count // divisor for count in counts]


def checked_weight(weight: float | Fraction, name: str) -> Fraction:
    """`exact(weight)`; WeightError naming the data set unless it is a finite number, 0 or more."""
    try:
        fraction = exact(weight)
    except (ValueError, TypeError):
        raise WeightError(f"weight {weight!r} of data set {name} is not a number; write one such as 0.5") from None
    if fraction < 0:
        raise WeightError(f"weight {float(fraction):g} of data set {name} is negative; weights are 0 or more")
    return fraction
