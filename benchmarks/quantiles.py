"""Which quantile sketch: rank error, size, speed and repeatability of Apache DataSketches on 1 M values each.

    python -m benchmarks.quantiles [--values 1000000]

The table in oxe_pipeline/stats/sketch.py is this script's output. Rank error counts ties in the answer's favour: a
value that fills ranks 0.2 to 0.4 is right for every share between.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import datasketches
import numpy as np

SHARES = (0.01, 0.5, 0.99)
CANDIDATES: dict[str, Callable[[], Any]] = {
    "t-digest k=500": lambda: datasketches.tdigest_double(500),
    "t-digest k=1000": lambda: datasketches.tdigest_double(1000),
    "t-digest k=2000": lambda: datasketches.tdigest_double(2000),
    "KLL k=4096": lambda: datasketches.kll_floats_sketch(4096),
    "quantiles k=2048": lambda: datasketches.quantiles_floats_sketch(2048),
    "REQ k=50": lambda: datasketches.req_floats_sketch(50),
    "REQ k=100": lambda: datasketches.req_floats_sketch(100),
}


def distributions(count: int) -> Iterator[np.ndarray]:
    """Columns of `count` float32 values: smooth, heavy-tailed, tied, ordered and drifting ones."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=count)
    columns = (
        normal,
        rng.uniform(size=count),
        rng.standard_cauchy(count),
        np.exp(3 * normal),
        rng.choice([-1, 1], count) * 10 ** rng.uniform(-30, 30, count),
        rng.integers(0, 7, count),
        rng.geometric(0.02, count),
        np.where(rng.random(count) < 0.6, 0, normal),
        np.where(rng.random(count) < 0.0105, -rng.exponential(size=count), 0),
        np.sort(normal),
        np.sort(normal)[::-1],
        np.resize(np.sort(normal[:1000]), count),
        np.cumsum(normal),
    )
    yield from (column.astype(np.float32) for column in columns)


def cuts(values: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The pieces that are sketched by themselves and then merged: none, as it comes, and by bands of values."""
    ordered = np.sort(values)
    bands = np.array_split(ordered, 100)
    yield [values]
    yield np.array_split(values, 100)
    yield np.array_split(values, 10_000)
    yield [bands[i] for i in np.random.default_rng(1).permutation(100)]
    yield bands
    yield [ordered[i::100] for i in range(100)]


def rank_errors(sketch: Any, ordered: np.ndarray) -> list[float]:
    """Distance of each of SHARES from the ranks that the sketch's answer fills in `ordered`."""
    errors = []
    for share in SHARES:
        answer = sketch.get_quantile(share)
        below, not_above = (np.searchsorted(ordered, answer, side) / len(ordered) for side in ("left", "right"))
        errors.append(max(0.0, below - share, share - not_above))
    return errors


def merged(make: Callable[[], Any], pieces: list[np.ndarray]) -> Any:
    """One sketch of all pieces, each sketched by itself first."""
    total = make()
    for piece in pieces:
        sketch = make()
        sketch.update(piece.astype(np.float32 if "floats" in type(sketch).__name__ else np.float64))
        total.merge(sketch)
    return total


def hostile_error(make: Callable[[], Any], share: float = 0.01, rounds: int = 20) -> float:
    """Worst rank error on data made from the sketch's own answers: each batch falls just beside the last one."""
    rng = np.random.default_rng(2)
    sketch, ordered = make(), np.sort(rng.normal(size=20_000))
    sketch.update(ordered)
    worst = 0.0
    for _ in range(rounds):
        place = np.searchsorted(ordered, copy.copy(sketch).get_quantile(share))
        low, high = ordered[max(place - 1, 0)], ordered[place]
        inside = low + (high - low) * rng.random(len(ordered) // 40)
        batch = np.concatenate([np.sort(inside), rng.uniform(high, high + 5, 4 * len(inside))])
        sketch.update(batch)
        ordered = np.sort(np.concatenate([ordered, batch]))
        answer = copy.copy(sketch).get_quantile(share)
        below, not_above = (np.searchsorted(ordered, answer, side) / len(ordered) for side in ("left", "right"))
        worst = max(worst, below - share, share - not_above)
    return worst


def main(argv: list[str] | None = None) -> int:
    """Prints the worst rank error over all distributions and cuts, bytes, speed, and whether a repeat is identical."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quantiles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--values", type=int, default=1_000_000, help="values in each column")
    count = parser.parse_args(argv).values
    print(f"{'sketch':<18}{'q01':>9}{'q50':>9}{'q99':>9}{'bytes':>9}{'M values/s':>12}  same bytes again")
    for name, make in CANDIDATES.items():
        worst, size, speeds = np.zeros(len(SHARES)), 0, []
        for values in distributions(count):
            ordered = np.sort(values.astype(np.float64))
            start = time.perf_counter()
            merged(make, [values])
            speeds.append(count / (time.perf_counter() - start) / 1e6)
            for pieces in cuts(values):
                sketch = merged(make, pieces)
                worst = np.maximum(worst, rank_errors(sketch, ordered))
                size = max(size, len(sketch.serialize()))
        first = next(distributions(count))
        same = merged(make, [first]).serialize() == merged(make, [first]).serialize()
        shown = "".join(f"{error:>9.3%}" for error in worst)
        print(f"{name:<18}{shown}{size:>9,}{np.median(speeds):>12.0f}  {'yes' if same else 'no'}", flush=True)
    for name, make in CANDIDATES.items():
        if name.startswith("t-digest"):
            print(f"{name} on hostile data: q01 off by {hostile_error(make):.3%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
