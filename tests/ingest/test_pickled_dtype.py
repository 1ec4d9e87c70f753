import pickle

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.pickled_dtype import PickledDtype, as_dtype
from oxe_pipeline.ingest.restricted_pickle import load_pickle

POINTERS = 63
"""Flags of an object dtype: its items are counted references."""


class Forged:
    """Pickled, a dtype that is given a state of our choice."""

    def __init__(self, name: str, state: object):
        self.name, self.state = name, state

    def __reduce__(self):
        return np.dtype, (self.name, False, True), self.state


class Filled:
    """Pickled, an array whose dtype is one of those."""

    def __init__(self, dtype: object, shape: tuple, data: object):
        self.state = (1, shape, dtype, False, data)

    def __reduce__(self):
        return np.zeros(1).__reduce_ex__(2)[0], (np.ndarray, (0,), b"b"), self.state


def loaded(tmp_path, value: object) -> object:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol=2))
    return load_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    "dtype",
    [
        "<f4",
        ">f8",
        "?",
        "<U7",
        "S3",
        "V5",
        "m8",
        "M8[10us]",
        "<c16",
        [("a", "<i2"), ("b", "S4", (2, 3))],
        np.dtype({"names": ["a", "b"], "formats": ["u1", ">f4"], "offsets": [0, 4], "itemsize": 12}),
        np.dtype([("a", "u1"), ("b", "f8")], align=True),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_every_dtype_of_numbers_texts_times_and_records_means_what_numpy_wrote(tmp_path, dtype, protocol):
    array = np.frombuffer(bytes(range(40)) * np.dtype(dtype).itemsize, dtype)
    written = pickle.dumps(array, protocol=protocol)
    (tmp_path / "x.pkl").write_bytes(written)
    found, expected = load_pickle(tmp_path / "x.pkl"), pickle.loads(written)
    assert found.dtype == expected.dtype and found.tobytes() == expected.tobytes(), (
        "NumPy may turn the bytes of numbers"
    )
    assert expected.dtype.newbyteorder("=") == array.dtype.newbyteorder("="), "NumPy may turn the bytes of numbers"


@pytest.mark.parametrize(
    "state",
    [
        (3, "<", None, None, None, -1, -1, POINTERS),
        (3, "<", None, None, None, 1 << 40, 1 << 40, POINTERS),
        (3, "|", None, ("a",), {"a": (Forged("O8", (3, "|", None, None, None, -1, -1, 0)), 0)}, 8, 8, 0),
        (3, "|", None, ("a",), {"a": (Forged("f8", (3, "<", None, None, None, -1, -1, 0)), 1 << 30)}, 8, 8, 0),
        (3, "|", None, ("a", "b"), {"a": (None, 0)}, 8, 8, 0),
        (3, "|", (Forged("O8", (3, "|", None, None, None, -1, -1, 0)), (2,)), None, None, 16, 8, 0),
    ],
)
def test_forged_states_are_refused_or_mean_plain_numbers(tmp_path, state):
    try:
        found = loaded(tmp_path, [Filled(Forged("f8", state), (2,), b"\1" * 16)])
    except DataError as error:
        assert "does not unpickle" in str(error)
    else:
        assert found[0].dtype == np.dtype("<f8") and found[0].tobytes() == b"\1" * 16


def test_objects_are_never_made_of_bytes(tmp_path):
    plain = (3, "|", None, None, None, -1, -1, POINTERS)
    with pytest.raises(DataError, match="does not unpickle"):
        loaded(tmp_path, Filled(Forged("O8", plain), (2,), b"\1" * 16))
    assert loaded(tmp_path, Filled(Forged("O8", plain), (2,), [{"a": 1}, None])).tolist() == [{"a": 1}, None]


def test_names_that_numpy_does_not_write_and_records_within_records_are_refused(tmp_path):
    for name in ("f8,i4", "object", "float64", "f", 7):
        with pytest.raises(ValueError, match="is no dtype as NumPy writes it"):
            PickledDtype(name)
    turning = PickledDtype("V8")
    turning.__setstate__((3, "|", None, ("a",), {"a": (turning, 0)}, 8, 1, 0))
    with pytest.raises(ValueError, match="a record within a record"):
        _ = turning.dtype
    turning.__setstate__((3, "|", (turning, (2,)), None, None, 8, 1, 0))
    with pytest.raises(ValueError, match="an array within an array"):
        _ = turning.dtype
    within = np.zeros(2, [("a", [("b", "f4")])])
    with pytest.raises(DataError, match="a record within a record"):
        loaded(tmp_path, within)
    with pytest.raises(ValueError, match="is no dtype"):
        as_dtype("f8")
