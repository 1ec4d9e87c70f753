"""Tally: named sums that audits keep. Merging is addition, so a tally of any grouping of the episodes says the same.

Counts are exact. Sums of float64 differ by their last bits when they are added in another order; the shard job merges
its units in their order, so its tally is the same to the last bit on any machine.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Sums = Mapping[str, Any]
"""Quantity to a count, or to an int64 or float64 array whose shape is always the same."""


class Tally:
    """Sums by audit and subject. One object accumulates; nothing else holds its state."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, audit: str, subject: str, sums: Sums) -> None:
        """Adds what one episode (or another tally) contributes to a subject."""
        kept = self._sums.setdefault((audit, subject), {})
        for quantity, values in sums.items():
            kept[quantity] = kept[quantity] + values if quantity in kept else values

    def merge(self, other: "Tally") -> None:
        """Adds what `other` holds; `other` stays as it is."""
        for (audit, subject), sums in other._sums.items():
            self.add(audit, subject, sums)

    def of(self, audit: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(subject, sums) of one audit, in order of subject."""
        for (name, subject), sums in sorted(self._sums.items()):
            if name == audit:
                yield subject, sums

    def to_dict(self) -> dict:
        """Everything as JSON-able lists, keys sorted; floats keep every bit. Inverse: from_dict."""
        content: dict[str, dict[str, dict]] = {}
        for (audit, subject), sums in sorted(self._sums.items()):
            content.setdefault(audit, {})[subject] = {name: _plain(sums[name]) for name in sorted(sums)}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Mapping[str, Mapping[str, int | list]]]) -> "Tally":
        """Inverse of to_dict."""
        tally = cls()
        for audit, subjects in content.items():
            for subject, sums in subjects.items():
                arrays = {
                    name: values if isinstance(values, int) else np.array(values) for name, values in sums.items()
                }
                tally.add(audit, subject, arrays)
        return tally


def _plain(values: Any) -> int | list:
    return values if isinstance(values, int) else values.tolist()
