"""Looks for the largest share error over many mixtures, and says what finding a place costs.

    python -m benchmarks.shares [--mixtures 120] [--leaves 8] [--json]

Families of weights that are hard in different ways (six decades, equal rare ones, a few heavy ones, all alike), 2 to
3,000 data sets, leaves at random up to sample number 10^11. The error is counted after every block of 32 samples.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from oxe_pipeline.mixture.chairman import MAX_PERIOD
from oxe_pipeline.mixture.halving import LEAF, HalvedShares
from oxe_pipeline.mixture.schedule import BLOCK
from oxe_pipeline.mixture.shares import quantise

SIZES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 25, 40, 80, 200, 1000, 3000)


@dataclass(frozen=True, kw_only=True)
class FamilyResult:
    family: str
    mixtures: int
    leaves: int
    above_one: int
    """Leaves in which some data set was more than one sample off after some block."""
    largest_error: float
    """In samples."""
    us_per_sample: float
    """To find where a sample goes, leaves included, in order."""


def families(rng: np.random.Generator, datasets: int) -> Iterator[tuple[str, np.ndarray]]:
    few = min(3, datasets - 1)
    yield "1e-6 to 1, evenly in the logarithm", 10 ** rng.uniform(-6, 0, datasets)
    yield "1e-6 to 1, evenly", rng.uniform(1e-6, 1, datasets)
    yield "one of 1, the rest 1e-6", np.r_[rng.uniform(0.9, 1), np.full(datasets - 1, 1e-6)]
    yield "1 or 1e-6", rng.choice([rng.uniform(0.9, 1), 1e-6], datasets)
    yield "1, 1e-3 or 1e-6", rng.choice([rng.uniform(0.9, 1), 1e-3, 1e-6], datasets)
    yield "half 1, half 0.99", np.r_[np.full(datasets // 2, rng.uniform(0.9, 1)), np.full(-(-datasets // 2), 0.99)]
    yield "three of 1, the rest 1e-6 to 1e-3", np.r_[np.full(few, 1.0), 10 ** rng.uniform(-6, -3, datasets - few)]


def largest_error(plan: HalvedShares, leaf: int) -> float:
    """In samples, over all data sets and blocks of a leaf."""
    counts = np.array(plan.counts, np.int64)
    total, first = int(counts.sum()), leaf * LEAF
    dataset, _ = plan.locate(np.arange(first, first + LEAF))
    drawn = np.zeros((LEAF // BLOCK, len(counts)), np.int32)
    np.add.at(drawn, (np.arange(LEAF) // BLOCK, dataset), 1)
    before = [(int(n) * total - first * int(c)) / total for n, c in zip(plan.counts_before(first), counts, strict=True)]
    due = np.arange(BLOCK, LEAF + 1, BLOCK)[:, None] * (counts / total)
    return float(np.abs(np.array(before) + drawn.cumsum(axis=0) - due).max())


def measure(mixtures: int, leaves: int) -> list[FamilyResult]:
    """A row per family, over `mixtures` mixtures of sizes SIZES in turn; the same every time but for the time taken."""
    rng = np.random.default_rng(0)
    errors: dict[str, list[float]] = {}
    took_s: dict[str, float] = {}
    for number in range(mixtures):
        for family, weights in families(rng, SIZES[number % len(SIZES)]):
            counts = quantise(weights.tolist())
            if sum(counts) <= MAX_PERIOD:
                continue
            plan = HalvedShares(tuple(counts))
            start = int(rng.integers(0, 10**11 // LEAF))
            started = time.perf_counter()
            plan.locate(np.arange(start * LEAF, (start + leaves) * LEAF))
            took_s[family] = took_s.get(family, 0.0) + time.perf_counter() - started
            errors.setdefault(family, []).extend(largest_error(plan, start + leaf) for leaf in range(leaves))
    return [
        FamilyResult(
            family=family,
            mixtures=len(found) // leaves,
            leaves=len(found),
            above_one=sum(error > 1 + 1e-9 for error in found),
            largest_error=max(found),
            us_per_sample=1e6 * took_s[family] / (len(found) * LEAF),
        )
        for family, found in errors.items()
    ]


def _print_table(rows: list[FamilyResult]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"share error after every {BLOCK} samples; leaves of {LEAF:,} samples")
    for heading in ("weights", "mixtures", "leaves", "above one sample", "largest error", "us per sample"):
        table.add_column(heading, justify="left" if heading == "weights" else "right")
    for row in rows:
        table.add_row(
            row.family,
            str(row.mixtures),
            str(row.leaves),
            str(row.above_one),
            f"{row.largest_error:.4f}",
            f"{row.us_per_sample:.2f}",
        )
    Console().print(table)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shares", description=__doc__.split("\n")[0])
    parser.add_argument("--mixtures", type=int, default=120, help="mixtures per family (default 120)")
    parser.add_argument("--leaves", type=int, default=8, help="leaves in a row of each, 8 at most (default 8)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args(argv)
    if arguments.mixtures < 1 or not 1 <= arguments.leaves <= 8:
        parser.error("--mixtures must be 1 or more and --leaves 1 to 8")
    rows = measure(arguments.mixtures, arguments.leaves)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        _print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
