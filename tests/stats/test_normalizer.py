import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from oxe_pipeline.stats import Normalizer, NormalizerConfig
from schemas.slots import ACTION_NAMES, STATE_NAMES

NAMES = ("arm0.eef_position_delta.x", "arm0.eef_position_delta.y", "arm0.gripper", "terminate")


def numbers(table: np.ndarray) -> dict[str, float]:
    q01, q99 = np.quantile(table, (0.01, 0.99))
    return {"count": len(table), "mean": table.mean(), "std": table.std(), "min": table.min(), "max": table.max(),
            "q01": q01, "q99": q99}  # fmt: skip


def summary(seed: int = 0) -> tuple[np.ndarray, dict]:
    rng = np.random.default_rng(seed)
    table = np.stack([rng.normal(0.3, 0.02, 5000), rng.normal(0, 5, 5000), rng.random(5000), rng.random(5000) > 0.9], 1)
    return table, {name: numbers(table[:, i]) for i, name in enumerate(NAMES)}


def make(mode="quantile", mask=None, table=None, **options) -> Normalizer:
    return Normalizer.from_summary(table or summary()[1], NAMES, mask, NormalizerConfig(mode=mode, **options))


def test_quantile_mode_brings_q01_and_q99_to_minus_one_and_one_and_does_not_clip():
    table, _ = summary()
    result = make().forward(table)
    for i in (0, 1):
        low, high = np.quantile(result[:, i], (0.01, 0.99))
        assert (low, high) == (pytest.approx(-1, abs=1e-4), pytest.approx(1, abs=1e-4))
        assert result[:, i].max() > 1.1


def test_min_max_and_mean_std_modes_do_what_they_say():
    table, _ = summary()
    result = make("min_max").forward(table)[:, :2]
    np.testing.assert_allclose([result.min(0), result.max(0)], [[-1, -1], [1, 1]], atol=1e-4)
    result = make("mean_std").forward(table)[:, :2]
    np.testing.assert_allclose([result.mean(0), result.std(0)], [[0, 0], [1, 1]], atol=1e-4)


def test_mode_none_grippers_and_terminate_pass_through_to_the_bit():
    table = summary()[0].astype(np.float32)
    np.testing.assert_array_equal(make("none").forward(table), table)
    np.testing.assert_array_equal(make().forward(table)[:, 2:], table[:, 2:])
    assert make().normalised.tolist() == [True, True, False, False]


def test_masked_slots_pass_through_even_without_statistics():
    _, known = summary()
    del known[NAMES[1]]
    normalizer = make(mask=np.array([True, False, True, True]), table=known)
    assert normalizer.forward(np.full(4, 7.0))[1] == 7
    with pytest.raises(ValueError, match=r"no statistics for arm0\.eef_position_delta\.y"):
        make(table=known)


@pytest.mark.parametrize("mode", ["quantile", "mean_std", "min_max"])
def test_a_slot_that_never_changes_becomes_0_and_comes_back_without_a_warning(mode):
    _, known = summary()
    known[NAMES[0]] = numbers(np.full(10, 0.25))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        normalizer = make(mode, table=known)
    assert normalizer.forward(np.array([0.25, 0, 0, 0]))[0] == 0
    assert normalizer.inverse(np.zeros(4))[0] == 0.25


@pytest.mark.parametrize("mode", ["quantile", "mean_std", "min_max"])
def test_a_range_below_the_least_is_widened_with_a_warning_that_names_the_slot(mode):
    _, known = summary()
    known[NAMES[0]] = numbers(np.linspace(0.5, 0.5 + 1e-9, 100))
    with pytest.warns(UserWarning, match=r"eef_position_delta\.x"):
        normalizer = make(mode, table=known)
    assert normalizer.scale[0] == np.float32(0.5e-4)


def test_a_slot_that_seldom_moves_is_scaled_by_its_whole_range():
    _, known = summary()
    known[NAMES[0]] = numbers(np.r_[np.zeros(9990), np.full(10, 0.4)])
    with pytest.warns(UserWarning, match="least and greatest"):
        normalizer = make(table=known)
    assert normalizer.forward(np.array([[0.4, 0, 0, 0], [0, 0, 0, 0]]))[:, 0].tolist() == [1, -1]


def test_no_motion_is_normalised_like_any_other_value():
    table, _ = summary()
    q01, q99 = np.quantile(table[:, 0], (0.01, 0.99))
    assert make().forward(np.zeros(4))[0] == pytest.approx(2 * (0 - q01) / (q99 - q01) - 1, rel=1e-4)
    assert abs(make().forward(np.zeros(4))[0]) > 1


def test_clip_limits_normalised_slots_only():
    result = make(clip=1.0).forward(np.array([100.0, -100.0, 5.0, 3.0]))
    assert result.tolist() == [1, -1, 5, 3]
    assert make(clip=1.0).inverse(np.array([2.0, 0, 0, 0]))[0] > make().inverse(np.array([1.0, 0, 0, 0]))[0]


@given(
    values=st_np.arrays(np.float32, st_np.array_shapes(max_dims=3, max_side=4).map(lambda shape: (*shape, 4)),
                        elements=st.floats(-20, 20, width=32)),
    mode=st.sampled_from(["quantile", "mean_std", "min_max", "none"]),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_there_and_back_gives_the_value_within_float32(values, mode, seed):
    normalizer = make(mode, table=summary(seed)[1])
    result = normalizer.forward(values)
    assert (result.dtype, result.shape) == (np.float32, values.shape)
    back = normalizer.inverse(result)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values, rtol=3e-7, atol=3e-6)


def test_chunks_and_single_steps_give_the_same_numbers():
    chunks_BTD = np.random.default_rng(2).normal(size=(3, 5, 4)).astype(np.float32)
    result = make().forward(chunks_BTD)
    np.testing.assert_array_equal(result[1, 2], make().forward(chunks_BTD[1, 2]))


@given(mode=st.sampled_from(["quantile", "mean_std", "min_max", "none"]), clip=st.none() | st.floats(0.5, 5))
def test_json_keeps_every_bit(mode, clip):
    normalizer = make(mode, clip=clip)
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    assert again.to_dict() == normalizer.to_dict()
    values = np.random.default_rng(0).normal(size=(50, 4))
    np.testing.assert_array_equal(again.forward(values), normalizer.forward(values))


def test_the_unified_vectors_pass_exactly_their_grippers_and_terminate():
    for names, passed in ((ACTION_NAMES, {"arm0.gripper", "arm1.gripper", "terminate"}),
                          (STATE_NAMES, {"arm0.gripper", "arm1.gripper"})):  # fmt: skip
        known = {name: numbers(np.linspace(-1, 1, 50)) for name in names}
        normalizer = Normalizer.from_summary(known, names)
        assert {n for n, scaled in zip(names, normalizer.normalised, strict=True) if not scaled} == passed


def test_unknown_modes_and_wrong_masks_are_refused():
    with pytest.raises(ValueError, match=r"mode 'q99' is unknown; there are quantile"):
        make("q99")
    with pytest.raises(ValueError, match=r"mask must be \[4\], is \[3\]"):
        make(mask=np.ones(3, bool))
