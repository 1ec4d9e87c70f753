import collections
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.restricted_pickle import load_pickle, plain_numbers

REAL_EPISODE = Path(__file__).parents[3] / "shared" / "data" / "bridge_raw" / "traj3"

CONTENT = {
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "objects": np.array([{"a": 1}, None], dtype=object),
    "scalar": np.float64(2.5),
    "big_endian": np.arange(5, dtype=">i2"),
    "texts": np.array(["red block", "bl\u00fc"]),
    "times": np.array(["2021-07-23T10:00"], dtype="M8[25s]"),
    "records": np.array([(1, (0.5, 2.0)), (3, (4.0, 5.0))], dtype=[("t", "<u4"), ("xy", ">f4", (2,))]),
    "plain": [1, 2.5, True, None, "text", b"bytes", (1, 2), {3, 4}, 1 + 2j],
}


class CallsSystem:
    """Unpickling an instance with a trusting unpickler would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def assert_same(loaded: dict) -> None:
    assert loaded.keys() == CONTENT.keys()
    for key in ("array", "fortran", "objects", "big_endian", "texts", "times", "records"):
        assert loaded[key].dtype.newbyteorder("=") == CONTENT[key].dtype.newbyteorder("=")
        assert np.array_equal(loaded[key], CONTENT[key])
    assert (loaded["scalar"], loaded["plain"]) == (CONTENT["scalar"], CONTENT["plain"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_come_back_from_every_protocol(tmp_path, protocol):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    assert_same(load_pickle(tmp_path / "x.pkl"))


@pytest.mark.parametrize("protocol", [0, 2])
def test_module_paths_of_numpy_1_and_2_are_both_read(tmp_path, protocol):
    # In protocols 0 to 3 a module's name is a bare line of the file, so the other NumPy's can be put in its place.
    written = pickle.dumps(CONTENT, protocol=protocol)
    for old, new in ((b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")):
        (tmp_path / "x.pkl").write_bytes(written.replace(old, new))
        assert_same(load_pickle(tmp_path / "x.pkl"))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_the_system_is_refused_and_nothing_is_run(tmp_path, protocol):
    trace = tmp_path / "was_run"
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": [CallsSystem(trace)]}, protocol=protocol))
    with pytest.raises(DataError, match=r"x\.pkl: needs the class (posix|nt)\.system, .* save it again"):
        load_pickle(tmp_path / "x.pkl")
    assert not trace.exists()


@pytest.mark.parametrize("foreign", [Path("x"), collections.Counter("ab"), np.ma.masked_array([1]), print, np.save])
def test_any_class_or_function_beyond_numpy_arrays_is_refused_by_name(tmp_path, foreign):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([foreign]))
    with pytest.raises(DataError, match=r"needs the class .*which is not numpy"):
        load_pickle(tmp_path / "x.pkl")


class PointersFromBytes:
    """Unpickling an instance by calling what it names gives an array whose items are addresses out of the file."""

    def __init__(self, constructor, arguments):
        self.call = constructor, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (np.ndarray, ((1,), np.dtype(object), b"\x01" * 8)),
        (np.float64(0).__reduce__()[0], (np.dtype(object), b"\x01" * 8)),
        (np.zeros(1).__reduce_ex__(5)[0], (b"\x01" * 8, np.dtype(object), (1,), "C")),
    ],
)
def test_bytes_of_the_file_are_never_taken_for_object_pointers(tmp_path, call):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(PointersFromBytes(*call)))
    with pytest.raises(DataError, match="does not unpickle"):
        load_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04]r\xff\xff\xff\x3f.",  # keep the list as number 2^30: a table of 16 GB
        b"\x80\x04\x8e\xff\xff\xff\xff\x0f\0\0\0ab.",  # 64 GB of bytes follow
        b"\x80\x04\x95\xff\xff\xff\xff\x0f\0\0\0].",  # a frame of 64 GB follows
        b"(lp-5\n.",
    ],
)
def test_no_memory_is_taken_because_a_pickle_says_so(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match="does not unpickle"):
        load_pickle(tmp_path / "x.pkl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("keep", [0, 1, 20, -5])
def test_a_truncated_pickle_says_so_in_one_line(tmp_path, keep):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(CONTENT, protocol=4)[:keep])
    with pytest.raises(DataError, match="does not unpickle") as caught:
        load_pickle(tmp_path / "x.pkl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3, 4]],
        [(1.0, 2), np.array([3, 4])],
        np.array([[1, 2], [3, 4]], np.int8),
        np.array([[1, 2], [3, 4]], object),
    ],
)
def test_tables_of_numbers_come_out_of_arrays_and_lists_alike(value):
    found = plain_numbers(value, most_rows=2)
    assert found.dtype == np.float64 and found.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "value", [[1, 2, 3], [[[1]]], ["1"], [1j], [None], [[10**400]], [[1, 2], [3]], "12", {1}, np.zeros(3, "M8[s]")]
)
def test_what_is_no_small_table_of_numbers_is_a_value_error(value):
    with pytest.raises(ValueError):
        plain_numbers(value, most_rows=2)


def test_a_missing_file_is_a_data_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"obs_dict\.pkl: no such file"):
        load_pickle(tmp_path / "obs_dict.pkl")


@pytest.mark.skipif(not REAL_EPISODE.is_dir(), reason="the real BridgeData episode is not here")
def test_real_bridge_pickles_are_read_and_the_one_with_ros_messages_is_refused():
    observations, actions = load_pickle(REAL_EPISODE / "obs_dict.pkl"), load_pickle(REAL_EPISODE / "policy_out.pkl")
    assert observations["full_state"].shape == (108, 7)
    assert len(actions) == 107 and actions[0]["actions"].shape == (7,)
    with pytest.raises(DataError, match=r"needs the class sensor_msgs\.msg\._CameraInfo\.CameraInfo"):
        load_pickle(REAL_EPISODE / "agent_data.pkl")
