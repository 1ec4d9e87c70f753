"""Heaps of HDF5 files: whole ones pass, damaged ones are refused before the library would walk them for ever."""

import struct

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.hdf5_file import opened
from oxe_pipeline.ingest.hdf5_heap import SIGNATURE, check_heaps

h5py = pytest.importorskip("h5py")


@pytest.fixture
def path(tmp_path):
    """Three images of variable length and a text: two kinds of use of the heap."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        images = file.create_dataset("images", (3,), h5py.vlen_dtype(np.uint8))
        for step in range(3):
            images[step] = np.full(1000 + step, step, np.uint8)
        file.create_dataset("text", data=["open the drawer"], dtype=h5py.string_dtype())
    return tmp_path / "x.h5"


def entries(content: bytes) -> list[int]:
    """Places of the entries of the first heap, by the specification's arithmetic."""
    start = content.index(SIGNATURE)
    end, place, found = start + struct.unpack_from("<Q", content, start + 8)[0], start + 16, []
    while place + 16 <= end:
        index, size = struct.unpack_from("<H6xQ", content, place)
        found.append(place)
        place += -(-(size + 16) // 8) * 8 if index else size
    return found


def test_whole_heaps_pass(path):
    check_heaps(path)
    assert len(entries(path.read_bytes())) >= 4
    with opened(path.parent, path.name) as content:
        assert [len(image) for image in content["images"][()]] == [1000, 1001, 1002]


@pytest.mark.parametrize("index, size", [(0, 0), (0, 8), (1, 2**64 - 1), (3, 1 << 40)])
def test_an_entry_that_leads_nowhere_is_refused(path, index, size):
    content = bytearray(path.read_bytes())
    place = entries(content)[1]
    struct.pack_into("<H6xQ", content, place, index, size)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"entry {index} of the heap at byte \d+ claims {size} bytes"):
        check_heaps(path)
    with pytest.raises(DataError, match="not a whole HDF5 file, copy it again: entry"), opened(path.parent, path.name):
        pass


def test_a_heap_longer_than_its_file_is_refused(path):
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, content.index(SIGNATURE) + 8, 1 << 50)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="claims 1125899906842624 bytes"):
        check_heaps(path)


def test_the_signature_at_the_very_end_and_an_empty_file(tmp_path):
    (tmp_path / "x.h5").write_bytes(SIGNATURE)
    with pytest.raises(ValueError, match="the heap at byte 0 is cut"):
        check_heaps(tmp_path / "x.h5")
    (tmp_path / "y.h5").touch()
    check_heaps(tmp_path / "y.h5")


@pytest.mark.parametrize("place", [8, 1 << 10, (1 << 20) - 16, (1 << 20) - 4, (1 << 20) + 8])
def test_a_heap_is_found_wherever_it_lies(tmp_path, place):
    (tmp_path / "x.h5").write_bytes((bytes(place) + SIGNATURE + struct.pack("<Q", 1 << 40)).ljust(3 << 20, b"\0"))
    with pytest.raises(ValueError, match=rf"the heap at byte {place} claims"):
        check_heaps(tmp_path / "x.h5")


def test_the_samples_of_real_recorders_pass(real_data):
    files = [*real_data.glob("robosuite_hdf5/**/*.hdf5"), *real_data.glob("maniskill_h5/*.h5")]
    assert len(files) == 4
    for file in files:
        check_heaps(file)


def test_heaps_laid_over_one_another_do_not_cost_the_square_of_the_file(tmp_path):
    """Every 32 bytes begins a heap that reaches to the end of the file, whose entries are 32 bytes long."""
    places, content = range(0, 1 << 20, 32), bytearray(1 << 20)
    for place in places:
        struct.pack_into("<8sQ", content, place, SIGNATURE, len(content) - place - 16)
        struct.pack_into("<H6xQ", content, place + 16, 1, 16)
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(ValueError, match="the heap at byte 64 lies over others"):
        check_heaps(tmp_path / "x.h5")
