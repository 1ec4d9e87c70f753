"""Rotations against matrices built by hand: scipy is not the reference here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.ingest.rotations import WIDTHS, convert_rotation, rotation_difference, to_rotation

angles = st.floats(-3.1, 3.1)
pitch = st.floats(-1.5, 1.5)


def axis_matrix(axis: str, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


@given(angles, pitch, angles)
def test_euler_xyz_is_roll_pitch_yaw_about_fixed_axes(roll, tilt, yaw):
    expected = axis_matrix("z", yaw) @ axis_matrix("y", tilt) @ axis_matrix("x", roll)
    got = convert_rotation(np.array([[roll, tilt, yaw]]), "euler_xyz", "matrix")
    np.testing.assert_allclose(got.reshape(3, 3), expected, atol=1e-12)


@given(angles, pitch, angles)
def test_intrinsic_xyz_turns_about_moving_axes(a, b, c):
    expected = axis_matrix("x", a) @ axis_matrix("y", b) @ axis_matrix("z", c)
    got = convert_rotation(np.array([[a, b, c]]), "euler_XYZ", "matrix")
    np.testing.assert_allclose(got.reshape(3, 3), expected, atol=1e-12)


@given(angles, pitch, angles)
def test_extrinsic_zyx_applies_z_first(a, b, c):
    expected = axis_matrix("x", c) @ axis_matrix("y", b) @ axis_matrix("z", a)
    got = convert_rotation(np.array([[a, b, c]]), "euler_zyx", "matrix")
    np.testing.assert_allclose(got.reshape(3, 3), expected, atol=1e-12)


def test_the_two_quaternion_orders_differ_by_where_the_scalar_stands():
    half = np.pi / 6
    xyzw = np.array([[0, 0, np.sin(half), np.cos(half)]])
    wxyz = np.array([[np.cos(half), 0, 0, np.sin(half)]])
    expected = axis_matrix("z", 2 * half).reshape(1, 9)
    np.testing.assert_allclose(convert_rotation(xyzw, "quaternion_xyzw", "matrix"), expected, atol=1e-12)
    np.testing.assert_allclose(convert_rotation(wxyz, "quaternion_wxyz", "matrix"), expected, atol=1e-12)


def test_rotation_6d_is_the_first_two_columns_one_after_the_other():
    matrix = axis_matrix("z", 0.3) @ axis_matrix("x", 1.1)
    got = convert_rotation(matrix.reshape(1, 9), "matrix", "rotation_6d")
    np.testing.assert_allclose(got[0], [*matrix[:, 0], *matrix[:, 1]], atol=1e-12)


def test_a_stretched_rotation_6d_is_made_orthogonal():
    matrix = axis_matrix("y", 0.7)
    stretched = np.array([[*(3 * matrix[:, 0]), *(0.5 * matrix[:, 1] + 0.2 * matrix[:, 0])]])
    np.testing.assert_allclose(convert_rotation(stretched, "rotation_6d", "matrix"), matrix.reshape(1, 9), atol=1e-12)


def test_degrees_are_turned_into_radians():
    got = convert_rotation(np.array([[0.0, 0.0, 90.0]]), "euler_xyz", "rotation_vector", degrees=True)
    np.testing.assert_allclose(got, [[0, 0, np.pi / 2]], atol=1e-12)


@pytest.mark.parametrize("form", sorted(WIDTHS))
def test_every_form_survives_a_round_trip_through_the_rotation_vector(form):
    vectors = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    there = convert_rotation(vectors, "rotation_vector", form)
    assert there.shape == (50, WIDTHS[form])
    np.testing.assert_allclose(convert_rotation(there, form, "rotation_vector"), vectors, atol=1e-9)


def test_a_difference_across_plus_minus_pi_is_small():
    earlier = to_rotation(np.array([[0.0, 0.0, np.pi - 0.01]]), "euler_xyz")
    later = to_rotation(np.array([[0.0, 0.0, -np.pi + 0.01]]), "euler_xyz")
    np.testing.assert_allclose(rotation_difference(later, earlier), [[0, 0, 0.02]], atol=1e-9)


def test_a_difference_is_expressed_in_the_base_frame():
    earlier = axis_matrix("x", np.pi / 2)
    later = axis_matrix("z", 0.2) @ earlier
    forms = [to_rotation(matrix.reshape(1, 9), "matrix") for matrix in (later, earlier)]
    np.testing.assert_allclose(rotation_difference(*forms), [[0, 0, 0.2]], atol=1e-9)


@pytest.mark.parametrize(
    ("values", "form", "message"),
    [
        (np.zeros((2, 4)), "euler_xyz", "takes"),
        (np.zeros((2, 4)), "quaternion_xyzw", "norm"),
        (np.zeros((1, 6)), "rotation_6d", "length zero"),
        (np.array([[1.0, 0, 0, 2, 0, 0]]), "rotation_6d", "parallel"),
    ],
)
def test_what_is_no_rotation_is_refused(values, form, message):
    with pytest.raises(ValueError, match=message):
        to_rotation(values, form)
