"""Exact count, mean, variance, minimum and maximum of many columns, mergeable.

Sums of squares are kept as squared deviations from the mean (M2), which neither overflows nor cancels when a mean is
large against its spread. Merging follows Chan, Golub and LeVeque 1979 ("Updating formulae and a pairwise algorithm for
computing sample variances"). Merging in another order changes the last bits of float64, never more.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(slots=True)
class Moments:
    """State per column: count int64 [D], the others float64 [D]. An unseen column has minimum +inf, maximum -inf."""

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    """Sum of squared deviations from the mean."""
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def empty(cls, width: int) -> "Moments":
        """Moments of `width` columns that have seen nothing."""
        return cls(
            count=np.zeros(width, np.int64),
            mean=np.zeros(width),
            m2=np.zeros(width),
            minimum=np.full(width, np.inf),
            maximum=np.full(width, -np.inf),
        )

    def update(self, values: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Adds T rows, `values` [T, D], all finite. Columns where `mask` bool [D] is false are left as they were."""
        if len(values) == 0:
            return
        values = np.asarray(values, np.float64)
        count = np.full_like(self.count, len(values))
        if mask is not None:
            count[~mask] = 0
        mean = values.mean(axis=0)
        self.merge(
            Moments(
                count=count,
                mean=mean,
                m2=np.square(values - mean).sum(axis=0),
                minimum=values.min(axis=0),
                maximum=values.max(axis=0),
            )
        )

    def merge(self, other: "Moments") -> None:
        """Adds what `other` has seen. Columns of `other` with count 0 contribute nothing, whatever else they hold."""
        seen = other.count > 0
        total = self.count + other.count
        share = np.divide(other.count, total, out=np.zeros_like(self.mean), where=total > 0)
        delta = np.where(seen, other.mean - self.mean, 0.0)
        self.mean = self.mean + delta * share
        self.m2 = self.m2 + np.where(seen, other.m2, 0.0) + np.square(delta) * share * self.count
        self.minimum = np.where(seen, np.minimum(self.minimum, other.minimum), self.minimum)
        self.maximum = np.where(seen, np.maximum(self.maximum, other.maximum), self.maximum)
        self.count = total

    def std(self) -> np.ndarray:
        """Population standard deviation (divided by count, as published statistics are), float64 [D]; 0 when unseen.

        Exactly 0 for a column that never changed, where rounding of the mean would otherwise leave about 1e-17.
        """
        variance = np.divide(self.m2, self.count, out=np.zeros_like(self.m2), where=self.count > 0)
        return np.where(self.minimum < self.maximum, np.sqrt(variance), 0.0)
