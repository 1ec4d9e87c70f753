"""Files that NumPy writes, and files that somebody made to hurt."""

import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.npz_file import read_npy, read_npz

ARRAYS = {
    "image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
    "state": np.linspace(0, 1, 7),
    "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "done": np.array(True),
    "none": np.zeros((0, 3), np.float32),
}


def npy(shape: object, dtype: str = "<f8", data: bytes = b"") -> bytes:
    """An .npy file that declares what it is told to."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(path: Path, members: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_as_numpy_wrote_them(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path, "a.npz", ARRAYS, "e")
    for name, expected in ARRAYS.items():
        assert found[name].dtype == expected.dtype and found[name].shape == expected.shape
        np.testing.assert_array_equal(found[name], expected)
        np.save(tmp_path / "a.npy", expected)
        np.testing.assert_array_equal(read_npy(tmp_path, "a.npy", "e"), expected)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy((1 << 40,)), r"declares \[1099511627776\] float64; at most"),
        (npy((-1, 4)), r"declares \[-1, 4\]"),
        (npy((3,)), "does not hold the 24 bytes"),
        (npy((1,), data=b"\0" * 9), "does not hold the 8 bytes"),
        (npy((1,), dtype="|O", data=b"cos\nsystem\n(S'true'\ntR."), "holds Python objects"),
        (npy((1,), dtype="|S999999999"), "declares"),
        (npy("(1,) * 10"), "damaged"),
        (npy((1,)).replace(b"\x01\x00", b"\x03\x00", 1), r"version \(3, 0\)"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"{" * 60_000, "damaged"),
        (b"", "damaged"),
        (b"GIF89a", "damaged"),
    ],
)
def test_a_file_that_promises_too_much_or_holds_no_numbers_is_refused_before_anything_is_made(
    tmp_path, content, reason
):
    (tmp_path / "a.npy").write_bytes(content)
    archive(tmp_path / "a.npz", {"x.npy": content})
    tracemalloc.start()
    for read in (lambda: read_npy(tmp_path, "a.npy", "e"), lambda: read_npz(tmp_path, "a.npz", ["x"], "e")):
        with pytest.raises(DataError, match=reason):
            read()
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_member_that_inflates_to_more_than_its_header_says_is_not_inflated_further(tmp_path):
    archive(tmp_path / "a.npz", {"x.npy": npy((1,), data=b"\0" * 100_000_000)})
    assert os.path.getsize(tmp_path / "a.npz") < 1e6
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a\.npz: damaged, copy it again: x: does not hold the 8 bytes"):
        read_npz(tmp_path, "a.npz", ["x"], "e")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_other_methods_of_packing_large_files_links_and_absent_arrays_are_named(tmp_path):
    archive(tmp_path / "lzma.npz", {"x.npy": npy((1,), data=b"\0" * 8)}, zipfile.ZIP_LZMA)
    np.savez(tmp_path / "a.npz", x=1)
    with (tmp_path / "large.npz").open("wb") as file:
        file.truncate(40 << 20)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "link.npz").symlink_to(tmp_path / "a.npz")
    for root, name, wanted, reason in (
        (tmp_path, "lzma.npz", "x", "packed by method 14"),
        (tmp_path, "a.npz", "y", "no array 'y' in the file; there are x"),
        (tmp_path, "large.npz", "x", "at most"),
        (tmp_path, "absent.npz", "x", "no such file"),
        (tmp_path / "raw", "link.npz", "x", "leads out of the raw folder"),
        (tmp_path / "raw", "../a.npz", "x", "leads out of the raw folder"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            read_npz(root, name, [wanted], "e")
        assert caught.value.episode == "e" and "\n" not in str(caught.value)


WHOLE = io.BytesIO()
np.savez_compressed(WHOLE, **ARRAYS)


@settings(max_examples=400)
@given(cut=st.integers(0, len(WHOLE.getvalue())), edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255))))
def test_any_damage_is_a_data_error_or_leaves_the_numbers_as_they_were(tmp_path_factory, cut, edits):
    content = bytearray(WHOLE.getvalue()[: cut or None])
    for place, value in edits:
        content[place % len(content)] = value
    folder = tmp_path_factory.getbasetemp()
    (folder / "fuzzed.npz").write_bytes(content)
    try:
        found = read_npz(folder, "fuzzed.npz", ARRAYS, "e")
    except DataError as error:
        assert "\n" not in str(error) and error.field == "fuzzed.npz"
    else:
        assert all(found[name].nbytes <= 1 << 20 for name in ARRAYS)
