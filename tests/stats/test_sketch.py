import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.stats.sketch import EXACT_VALUES, QuantileSketch

COUNT = 200_000
SHARES = (0.01, 0.99)
DISTRIBUTIONS = (
    "normal",
    "uniform",
    "cauchy",
    "decades",
    "integers",
    "mostly_zero",
    "atom_beside_q01",
    "sorted",
    "drift",
)


@cache
def column(name: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    normal = rng.normal(size=COUNT)
    return {
        "normal": normal,
        "uniform": rng.uniform(size=COUNT),
        "cauchy": rng.standard_cauchy(COUNT),
        "decades": rng.choice([-1, 1], COUNT) * 10 ** rng.uniform(-30, 30, COUNT),
        "integers": rng.integers(0, 7, COUNT),
        "mostly_zero": np.where(rng.random(COUNT) < 0.6, 0, normal),
        "atom_beside_q01": np.where(rng.random(COUNT) < 0.0105, -rng.exponential(size=COUNT), 0),
        "sorted": np.sort(normal),
        "drift": np.cumsum(normal),
    }[name].astype(np.float32)


def cut(values: np.ndarray, how: str) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    ordered = np.sort(values)
    return {
        "one piece": [values],
        "twenty pieces": np.array_split(values, 20),
        "twenty pieces, each a narrow band of values": [np.array_split(ordered, 20)[i] for i in rng.permutation(20)],
        "bands in ascending order": np.array_split(ordered, 20),
        "pieces of very different length": np.split(values, [5, 100, 20_000, 20_001, 150_000]),
    }[how]


HOW = ("one piece", "twenty pieces", "twenty pieces, each a narrow band of values", "bands in ascending order",
       "pieces of very different length")  # fmt: skip


def sketch_of(values: np.ndarray) -> QuantileSketch:
    sketch = QuantileSketch()
    sketch.update(values)
    return sketch


def merged(pieces) -> QuantileSketch:
    total = QuantileSketch()
    for piece in pieces:
        total.merge(sketch_of(piece))
    return total


def rank_error(values: np.ndarray, answer: float, share: float) -> float:
    """Distance of `share` from the ranks that `answer` may claim: from values below it to values not above it."""
    below, not_above = np.mean(values < answer), np.mean(values <= answer)
    return max(0.0, below - share, share - not_above)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_tail_quantiles_are_within_a_thousandth_of_their_rank(name, how):
    values = column(name)
    answers = merged(cut(values, how)).quantiles(SHARES)
    for answer, share in zip(answers, SHARES, strict=True):
        assert rank_error(values.astype(np.float64), answer, share) <= 0.001


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), share=st.floats(0, 1))
def test_short_columns_give_exactly_the_quantiles_of_numpy(values, share):
    assert sketch_of(np.array(values)).quantiles((share,)) == [np.quantile(np.array(values, np.float64), share)]


@given(pieces=st.lists(st.lists(st.floats(-10, 10, width=32), max_size=8), max_size=6), seed=st.integers(0, 99))
def test_short_columns_merge_to_the_same_bytes_in_any_order(pieces, seed):
    pieces = [np.array(piece, np.float32) for piece in pieces]
    shuffled = [pieces[i] for i in np.random.default_rng(seed).permutation(len(pieces))]
    assert merged(pieces).to_bytes() == merged(shuffled).to_bytes()


def test_cutting_one_column_into_other_calls_does_not_change_a_byte():
    values = column("normal")[:50_000]
    whole, steps = sketch_of(values), QuantileSketch()
    for piece in np.array_split(values, 999):
        steps.update(piece)
    assert whole.to_bytes() == steps.to_bytes()


def test_asking_writing_and_reading_back_do_not_change_what_comes_later():
    values = column("normal")[:40_000]
    plain, disturbed = QuantileSketch(), QuantileSketch()
    for piece in np.array_split(values, 7):
        plain.update(piece)
        disturbed.update(piece)
        disturbed.quantiles(SHARES)
        disturbed.to_bytes()
    assert plain.to_bytes() == disturbed.to_bytes()
    again = QuantileSketch.from_bytes(plain.to_bytes())
    assert again.to_bytes() == plain.to_bytes()
    assert again.quantiles(SHARES) == plain.quantiles(SHARES)


def test_merging_leaves_the_other_sketch_as_it_was():
    large, small = sketch_of(column("normal")), sketch_of(column("uniform")[:100])
    before = large.to_bytes(), small.to_bytes()
    for other in (large, small):
        QuantileSketch().merge(other)
        sketch_of(column("cauchy")).merge(other)
    assert (large.to_bytes(), small.to_bytes()) == before


def test_another_process_writes_the_same_bytes():
    code = (
        "import hashlib; import numpy as np; from oxe_pipeline.stats.sketch import QuantileSketch;"
        "s = QuantileSketch();"
        "[s.update(np.random.default_rng(i).normal(size=5000)) for i in range(6)];"
        "print(hashlib.sha256(s.to_bytes()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    sketch = QuantileSketch()
    for i in range(6):
        sketch.update(np.random.default_rng(i).normal(size=5000))
    assert run.stdout.strip() == hashlib.sha256(sketch.to_bytes()).hexdigest()


def test_the_change_from_exact_to_sketched_happens_at_the_limit_and_loses_no_value():
    values = column("normal")[: EXACT_VALUES + 1]
    at_limit, above = sketch_of(values[:-1]), sketch_of(values)
    assert len(at_limit.to_bytes()) == 1 + 4 * EXACT_VALUES
    assert at_limit.quantiles((0.5,)) == [np.quantile(values[:-1].astype(np.float64), 0.5)]
    assert above.quantiles((0.0, 1.0)) == [values.min(), values.max()]


def test_an_empty_sketch_answers_nan_and_an_unknown_kind_is_refused():
    assert np.isnan(QuantileSketch().quantiles((0.5,))).all()
    with pytest.raises(ValueError, match="kind b'X' is unknown"):
        QuantileSketch.from_bytes(b"Xabc")


def test_size_stays_bounded():
    assert len(sketch_of(column("normal")).to_bytes()) < 45_000
