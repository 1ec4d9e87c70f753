"""Files that promise more than they hold, or more than a machine can: refused before anything of it is read."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest import hdf5_frames, hdf5_limits
from oxe_pipeline.ingest.hdf5_file import arrays, opened, own_group, read_whole, text_attribute
from oxe_pipeline.ingest.hdf5_frames import frames_of

h5py = pytest.importorskip("h5py")


def refused(path, match, *, whole=True):
    """Reading `x` of the file is a DataError, and costs less than 64 MB on the way."""
    tracemalloc.start()
    with pytest.raises(DataError, match=match), opened(path.parent, path.name) as content:
        if whole:
            read_whole(content["x"], "e", "x")
        else:
            list(frames_of(content["x"], root=path.parent, file=path.name, episode="e"))
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.h5"


def test_more_bytes_than_the_limit_are_refused_whole_and_by_the_step(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (1 << 14, 1 << 14), np.float64, chunks=(1, 1024))
    refused(path, r"declares \[16384, 16384\] float64, 2147483648 bytes; at most 1073741824 are read")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (2, 1 << 15, 1 << 15, 3), np.uint8, chunks=(1, 64, 64, 3))
    refused(path, r"3221225472 bytes a step", whole=False)


def test_many_columns_that_are_allowed_one_by_one_are_refused_together(path, monkeypatch):
    """Zeros take no room in the file: a hundred such columns would be a hundred gigabytes."""
    monkeypatch.setattr(hdf5_frames, "MAX_EPISODE_BYTES", 100_000)
    with h5py.File(path, "w") as file:
        for name in "abc":
            file.create_dataset(f"demo/{name}", data=np.zeros((1000, 5)), compression="gzip")
    with opened(path.parent, path.name) as content, pytest.raises(DataError) as fault:
        list(hdf5_frames.columns(content["demo"], "e", "", root=path.parent, file=path.name))
    assert fault.value.field == "c" and "120000 bytes; at most 100000" in fault.value.reason


def test_more_steps_than_any_episode_has_are_refused(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (2_000_000, 8, 8, 3), np.uint8, chunks=(1000, 8, 8, 3))
    refused(path, "declares 2000000 steps", whole=False)


def test_data_that_were_never_written_are_not_taken_for_zeros(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (100, 7))
    refused(path, "declares 2800 bytes and holds 0")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (100, 7), chunks=(10, 7))[:25] = 1
    refused(path, "holds 3 of its 10 chunks")


def test_a_chunk_too_large_for_memory_is_refused(path, monkeypatch):
    monkeypatch.setattr(hdf5_limits, "MAX_CHUNK_BYTES", 1000)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.zeros((20, 8, 8, 3), np.uint8), chunks=(20, 8, 8, 3))
    refused(path, "has chunks of 3840 bytes; at most 1000", whole=False)


def test_a_chunk_that_inflates_to_more_than_it_declares_is_a_bomb(path, monkeypatch):
    monkeypatch.setattr(hdf5_limits, "MAX_CHUNK_BYTES", 4 << 20)
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", (4, 1 << 18), np.uint8, chunks=(4, 1 << 18), compression="gzip")
        x.id.write_direct_chunk((0, 0), zlib.compress(bytes(64 << 20), 9))
    refused(path, r"its chunk at \[0, 0\] inflates to more than the 1048576 bytes it declares")


def test_a_chunk_that_could_be_a_bomb_and_is_none_is_read(path, monkeypatch):
    monkeypatch.setattr(hdf5_limits, "MAX_CHUNK_BYTES", 4 << 20)
    values = np.random.default_rng(0).integers(0, 256, (4, 1 << 18), np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=values.shape, compression="gzip", shuffle=True, fletcher32=True)
    with opened(path.parent, path.name) as content:
        assert np.array_equal(read_whole(content["x"], "e", "x"), values)


@pytest.mark.parametrize(
    "filters, reason", [([1, 1], "compressed twice over"), ([32015], "compressed by HDF5 filter 32015; only gzip")]
)
def test_filters_that_are_plug_ins_and_stacked_compressors_are_refused(path, filters, reason):
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        for code in filters:
            plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (5,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((4,)), plist)
    refused(path, reason)


def test_a_length_of_gigabytes_in_a_reference_is_refused(path):
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", (3,), dtype=h5py.vlen_dtype(np.uint8))
        for step in range(3):
            x[step] = np.arange(10 + step, dtype=np.uint8)
        offset = x.id.get_offset()
    content = bytearray(path.read_bytes())
    assert struct.unpack_from("<I", content, offset + 16) == (11,)
    struct.pack_into("<I", content, offset + 16, 4_000_000_000)
    path.write_bytes(content)
    refused(path, "entries declare up to 4000000000 values", whole=False)


def test_groups_linked_into_a_circle_end_in_a_data_error(path):
    with h5py.File(path, "w") as file:
        group = file.create_group("a")
        group["again"] = group
    with pytest.raises(DataError, match="more than 16 deep"), opened(path.parent, path.name) as content:
        list(arrays(content, "e", ""))


def test_more_members_than_a_walk_may_take_are_refused(path, monkeypatch):
    monkeypatch.setattr("oxe_pipeline.ingest.hdf5_file.MAX_MEMBERS", 10)
    with h5py.File(path, "w") as file:
        for number in range(12):
            file.create_group(f"a/{number // 6}/{number}")
    with pytest.raises(DataError, match="more than 10 members"), opened(path.parent, path.name) as content:
        list(arrays(content, "e", ""))


def test_attributes_that_are_no_text_are_data_errors(path):
    with h5py.File(path, "w") as file:
        file.attrs["numbers"], file.attrs["bytes"] = np.zeros(3), np.bytes_(b"caf\xe9")
    with opened(path.parent, path.name) as content:
        assert text_attribute(content, "bytes", "e") == "caf\ufffd"
        assert text_attribute(content, "absent", "e") == ""
        with pytest.raises(DataError, match="attribute numbers: is not text"):
            text_attribute(content, "numbers", "e")


def test_a_soft_link_is_not_followed(path):
    with h5py.File(path, "w") as file:
        file["a"] = h5py.SoftLink("/b")
        file.create_group("b")
    with pytest.raises(DataError, match="is a link"), opened(path.parent, path.name) as content:
        own_group(content, "a", "e")
