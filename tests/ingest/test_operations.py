"""Column operations against values worked out by hand and against plain re-statements of the published rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from oxe_pipeline.ingest.operations import apply_column
from schemas.operations import ColumnOperation

parse = TypeAdapter(ColumnOperation).validate_python
signals = st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=40)


def run(values, **operation):
    column = np.asarray(values, np.float64)
    return apply_column(parse(operation), column.reshape(len(column), -1))


def test_scale_multiplies_then_adds_per_column():
    got = run([[1, 2], [3, 4]], op="scale", factor=[10, 100], offset=[1, 0])
    np.testing.assert_array_equal(got, [[11, 200], [31, 400]])


def test_clip_and_invert_turn_plus_minus_one_closedness_into_openness():
    clipped = run([-1, 0.3, 1], op="clip", low=0, high=1)
    np.testing.assert_allclose(run(clipped, op="invert"), [[1], [0.7], [0]])


def test_binarize_gives_the_state_reached_next():
    got = run([0.5, 1.0, 0.6, 0.0, 0.4, 0.97], op="binarize_gripper")
    np.testing.assert_array_equal(got[:, 0], [1, 1, 0, 0, 1, 1])


def test_binarize_gives_an_unsettled_tail_its_raw_last_value():
    got = run([1.0, 0.6, 0.5], op="binarize_gripper")
    np.testing.assert_array_equal(got[:, 0], [1, 0.5, 0.5])


@given(signals)
def test_binarize_agrees_with_looking_forward_from_each_step(signal):
    got = run(signal, op="binarize_gripper")[:, 0]
    for step in range(len(signal)):
        settled = [value for value in signal[step:] if value > 0.95 or value < 0.05]
        assert got[step] == ((1.0 if settled[0] > 0.95 else 0.0) if settled else signal[-1])


def test_relative_gripper_holds_the_last_command_and_starts_in_the_opposite_state():
    got = run([0, 0, 1, 0, 0.05, -1, 0], op="gripper_relative_to_absolute")
    np.testing.assert_array_equal(got[:, 0], [1, 1, 0, 0, 0, 1, 1])


def test_relative_gripper_that_opens_first_starts_closed():
    np.testing.assert_array_equal(run([0, -1, 0], op="gripper_relative_to_absolute")[:, 0], [0, 1, 1])


def test_relative_gripper_without_a_command_is_open():
    np.testing.assert_array_equal(run([0, 0.1, -0.1], op="gripper_relative_to_absolute")[:, 0], [1, 1, 1])


@given(signals)
def test_relative_gripper_agrees_with_looking_back_from_each_step(signal):
    got = run(signal, op="gripper_relative_to_absolute")[:, 0]
    commands = [0.0 if value > 0.1 else 1.0 if value < -0.1 else None for value in signal]
    first = next((command for command in commands if command is not None), None)
    for step in range(len(signal)):
        past = [command for command in commands[: step + 1] if command is not None]
        assert got[step] == (past[-1] if past else 1.0 if first is None else 1.0 - first)


@pytest.mark.parametrize("op", ["binarize_gripper", "gripper_relative_to_absolute"])
def test_a_gripper_that_is_not_a_number_stays_so_for_the_checks_to_find(op):
    assert np.isnan(run([1, np.nan, -1], op=op)[:, 0]).tolist() == [False, True, False]


def test_gripper_width_adds_both_fingers_whatever_their_sign():
    got = run([[0.04, -0.04], [0.0, 0.0], [0.02, -0.02], [0.05, -0.05]], op="gripper_width", open_width=0.08)
    np.testing.assert_allclose(got[:, 0], [1, 0, 0.5, 1])


def test_select_takes_columns_in_the_order_asked_for():
    np.testing.assert_array_equal(run([[1, 2, 3], [4, 5, 6]], op="select", columns=[2, 0]), [[3, 1], [6, 4]])


def test_select_refuses_a_column_that_is_not_there():
    with pytest.raises(ValueError, match=r"columns \[0, 3\] of 3; name columns that are there"):
        run([[1, 2, 3]], op="select", columns=[0, 3])


def test_an_angle_becomes_cosine_and_sine():
    got = run([0, np.pi / 2, -np.pi], op="angle_to_cos_sin")
    np.testing.assert_allclose(got, [[1, 0], [0, 1], [-1, 0]], atol=1e-12)


def test_a_constant_is_written_whatever_the_source_says():
    np.testing.assert_array_equal(run([[0.3, 2], [5, 6]], op="constant", value=1), [[1, 1], [1, 1]])
