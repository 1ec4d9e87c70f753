"""number_table: what counts as T rows of k numbers."""

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.columns import number_table


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[1, 2], [3, 4]], np.int16), [[1.0, 2.0], [3.0, 4.0]]),
        (np.array([1.5, 2.5], np.float32), [[1.5], [2.5]]),
        (np.array([True, False]), [[1.0], [0.0]]),
        (np.zeros((0, 3)), []),
    ],
)
def test_rows_of_numbers_become_float64(values, expected):
    width = len(expected[0]) if expected else 3
    table = number_table(values, width, episode="e", field="f")
    assert table.dtype == np.float64 and table.shape == (len(expected), width) and table.tolist() == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((4, 3)), r"float64 \[4, 3\]"),
        (np.zeros(8), r"float64 \[8\]"),
        (np.zeros((4, 2, 1)), r"float64 \[4, 2, 1\]"),
        (np.float64(3), r"float64 \[\]"),
        (np.zeros((4, 2), complex), r"complex128 \[4, 2\]"),
        (np.array([["a", "b"]]), r"<U1 \[1, 2\]"),
    ],
)
def test_anything_else_is_named_with_its_place(values, said):
    with pytest.raises(DataError, match=rf"folder/e: arm/pose: must be numbers \[T, 2\], is {said}"):
        number_table(np.asarray(values), 2, episode="folder/e", field="arm/pose")
