import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.stats.statistics import VectorStatistics

NAMES = ("arm0.eef_position_delta.x", "arm0.eef_position_delta.y", "arm0.gripper")


def episodes(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    scale = np.array([0.01, 1, 100])
    return [(rng.normal(size=(rng.integers(1, 60), 3)) * scale).astype(np.float32) for _ in range(count)]


def statistics_of(pieces) -> VectorStatistics:
    statistics = VectorStatistics(NAMES)
    for piece in pieces:
        statistics.update(piece)
    return statistics


def expected(pieces) -> dict:
    table = np.concatenate(pieces).astype(np.float64)
    q01, q99 = np.quantile(table, (0.01, 0.99), axis=0)
    rows = zip(table.mean(0), table.std(0), table.min(0), table.max(0), q01, q99, strict=True)
    keys = ("mean", "std", "min", "max", "q01", "q99")
    return {
        name: {"count": len(table), **dict(zip(keys, row, strict=True))} for name, row in zip(NAMES, rows, strict=True)
    }


def assert_same_numbers(summary: dict, reference: dict) -> None:
    assert summary.keys() == reference.keys()
    for name, numbers in reference.items():
        assert summary[name]["count"] == numbers["count"]
        for key, value in numbers.items():
            assert summary[name][key] == pytest.approx(value, rel=1e-9, abs=1e-9), (name, key)


def test_summary_is_what_numpy_says_about_all_steps_together():
    pieces = episodes(30)
    assert_same_numbers(statistics_of(pieces).summary(), expected(pieces))


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 30), max_size=4), seed=st.integers(0, 9))
def test_any_grouping_of_episodes_into_shards_merges_to_the_numbers_of_all(cuts, seed):
    pieces = episodes(30, seed)
    bounds = [0, *sorted(cuts), 30]
    total = VectorStatistics(NAMES)
    for start, stop in pairwise(bounds):
        total.merge(statistics_of(pieces[start:stop]))
    assert_same_numbers(total.summary(), expected(pieces))


def test_quantiles_of_merged_data_sets_are_those_of_the_data_not_an_envelope():
    rng = np.random.default_rng(1)
    narrow, wide = rng.normal(size=(90_000, 3)), 10 * rng.normal(size=(10_000, 3))
    total = statistics_of([narrow])
    total.merge(statistics_of([wide]))
    table = np.concatenate([narrow, wide])
    envelope = np.quantile(wide[:, 0], 0.99)
    answer = total.summary()[NAMES[0]]["q99"]
    assert abs(np.mean(table[:, 0] <= answer) - 0.99) <= 0.001
    assert abs(np.mean(table[:, 0] <= envelope) - 0.99) > 0.005


def test_masked_slots_are_not_looked_at_and_do_not_appear():
    statistics = VectorStatistics(NAMES)
    values = np.array([[1, np.nan, 3], [2, np.inf, 4]], np.float32)
    statistics.update(values, np.array([True, False, True]))
    assert list(statistics.summary()) == [NAMES[0], NAMES[2]]
    assert statistics.summary()[NAMES[2]]["mean"] == 3.5


def test_summary_is_plain_json_also_when_empty():
    assert json.loads(json.dumps(statistics_of(episodes(2)).summary())) == statistics_of(episodes(2)).summary()
    assert VectorStatistics(NAMES).summary() == {}


@pytest.mark.parametrize("count", [0, 3, 2000])
def test_bytes_and_record_come_back_as_they_were(count):
    statistics = statistics_of(episodes(count))
    content = statistics.to_bytes()
    again = VectorStatistics.from_bytes(content)
    assert (again.names, again.to_bytes(), again.summary()) == (NAMES, content, statistics.summary())
    record = json.loads(json.dumps(statistics.to_record()))
    assert VectorStatistics.from_record(record).to_bytes() == content
    assert pickle.loads(pickle.dumps(statistics)).to_bytes() == content
    again.update(episodes(1)[0])  # what was read back can be added to


def test_the_same_shards_merged_in_the_same_order_give_the_same_bytes():
    shards = [episodes(400, seed) for seed in range(3)]
    runs = []
    for _ in range(2):
        total = VectorStatistics(NAMES)
        for shard in shards:
            total.merge(VectorStatistics.from_bytes(statistics_of(shard).to_bytes()))
        runs.append(total.to_bytes())
    assert runs[0] == runs[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_slot_and_row_and_nothing_is_added(value):
    statistics = statistics_of(episodes(1))
    before = statistics.to_bytes()
    bad = np.ones((5, 3), np.float32)
    bad[3, 1] = value
    with pytest.raises(ValueError, match=r"eef_position_delta\.y is .* in row 3"):
        statistics.update(bad)
    assert statistics.to_bytes() == before


def test_wrong_shapes_and_other_slots_are_refused():
    statistics = VectorStatistics(NAMES)
    with pytest.raises(ValueError, match=r"must be \[T, 3\], are \[5, 4\]"):
        statistics.update(np.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"mask must be \[3\], is \[2\]"):
        statistics.update(np.zeros((5, 3)), np.ones(2, bool))
    with pytest.raises(ValueError, match="terminate"):
        statistics.merge(VectorStatistics([*NAMES[:2], "terminate"]))
    with pytest.raises(ValueError, match="another order"):
        statistics.merge(VectorStatistics(NAMES[::-1]))
    with pytest.raises(ValueError, match="unique"):
        VectorStatistics(["a", "a"])


def test_foreign_newer_and_damaged_bytes_are_refused():
    content = statistics_of(episodes(3)).to_bytes()
    with pytest.raises(ValueError, match="not written by"):
        VectorStatistics.from_bytes(b"PK" + content)
    with pytest.raises(ValueError, match="format 9"):
        VectorStatistics.from_bytes(content[:8] + b"\x09" + content[9:])
    for cut in (20, len(content) - 1):
        with pytest.raises(ValueError, match="damaged"):
            VectorStatistics.from_bytes(content[:cut])
