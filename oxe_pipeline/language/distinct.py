"""How many different texts were seen, in bounded memory: exact up to a limit, then a lower bound and an estimate.

The k smallest 64-bit hashes are kept (Bar-Yossef et al. 2002, "Counting distinct elements in a data stream"). Which
they are does not depend on the order of adding or merging, so neither does any answer.
"""

from collections.abc import Iterable

import xxhash

MAX_KEPT = 8192
"""Relative standard error of the estimate beyond it: 1 / sqrt(8192) = 1.1 %."""


class DistinctCount:
    """A set of texts that can only be counted and merged."""

    def __init__(self, hashes: Iterable[int] = ()) -> None:
        self._hashes = set(hashes)

    def add(self, text: str) -> None:
        """Counts `text` if it is new."""
        self._hashes.add(xxhash.xxh3_64_intdigest(text.encode()))
        if len(self._hashes) >= 2 * MAX_KEPT:
            self._hashes = set(self._kept())

    def merge(self, other: "DistinctCount") -> None:
        """Adds what `other` has seen; associative and commutative."""
        self._hashes = set(DistinctCount(self._hashes | other._hashes)._kept())

    @property
    def is_exact(self) -> bool:
        """False from MAX_KEPT different texts on."""
        return len(self._hashes) < MAX_KEPT

    @property
    def at_least(self) -> int:
        """Different texts for certain; all of them when is_exact."""
        return min(len(self._hashes), MAX_KEPT)

    @property
    def estimate(self) -> int:
        """Different texts: exact while is_exact, else from how densely the kept hashes lie."""
        return self.at_least if self.is_exact else round((MAX_KEPT - 1) * 2**64 / self._kept()[-1])

    def to_text(self) -> str:
        """The state: kept hashes ascending, 16 hexadecimal digits each."""
        return "".join(f"{value:016x}" for value in self._kept())

    @classmethod
    def from_text(cls, text: str) -> "DistinctCount":
        """Inverse of to_text; ValueError for anything else."""
        return cls(int(text[i : i + 16], 16) for i in range(0, len(text), 16))

    def _kept(self) -> list[int]:
        return sorted(self._hashes)[:MAX_KEPT]
