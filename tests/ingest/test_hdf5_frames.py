"""Images inside HDF5 files, however they are stored, against the images that were put in."""

import io
import tracemalloc

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.hdf5_file import opened
from oxe_pipeline.ingest.hdf5_frames import columns, frames_of, holds_encoded
from samples.drawn import drawn_frames

h5py = pytest.importorskip("h5py")

FRAMES = drawn_frames(7, height=16, width=24)


def frames(root, **options):
    with opened(root, "x.h5") as content:
        return frames_of(content["images"], root=root, file="x.h5", episode="x.h5/0", **options)


def write(root, data, **options):
    with h5py.File(root / "x.h5", "w") as file:
        file.create_dataset("images", data=data, **options)


def jpegs() -> list[bytes]:
    from PIL import Image

    def encoded(frame):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG")
        return buffer.getvalue()

    return [encoded(frame) for frame in FRAMES]


def padded(images: list[bytes], width: int) -> np.ndarray:
    return np.stack([np.frombuffer(image.ljust(width, b"\0"), np.uint8) for image in images])


CHUNKINGS = [None, (1, 16, 24, 3), (3, 16, 24, 3), (2, 8, 8, 1), (7, 16, 24, 3)]


STORED = [(None, None), *((chunks, filter_) for chunks in CHUNKINGS[1:] for filter_ in (None, "gzip", "lzf"))]


@pytest.mark.parametrize("chunks, compression", STORED)
def test_pixels_come_out_as_they_were_stored_whatever_the_chunks(tmp_path, chunks, compression):
    write(tmp_path, FRAMES, chunks=chunks, compression=compression)
    found = frames(tmp_path)
    assert len(found) == 7
    assert np.array_equal(np.stack(list(found)), FRAMES)


def test_identity_is_of_the_pixels_alone(tmp_path):
    identities = set()
    for chunks in CHUNKINGS:
        write(tmp_path, FRAMES, chunks=chunks)
        identities.add(frames(tmp_path).identity())
    assert len(identities) == 1
    changed = FRAMES.copy()
    changed[3, 0, 0, 0] += 1
    write(tmp_path, changed)
    assert frames(tmp_path).identity() not in identities


@pytest.mark.parametrize("chunks", [None, (3, 16, 24, 3)])
def test_the_last_image_may_be_left_out(tmp_path, chunks):
    write(tmp_path, FRAMES, chunks=chunks)
    assert np.array_equal(np.stack(list(frames(tmp_path, drop_last=1))), FRAMES[:-1])


def test_padding_is_cut_from_encoded_rows(tmp_path):
    images = jpegs()
    width = max(map(len, images)) + 100
    write(tmp_path, padded(images, width))
    assert list(frames(tmp_path)) == images


@pytest.mark.parametrize("options", [{}, {"chunks": (2,)}, {"chunks": (2,), "compression": "gzip"}])
def test_images_of_their_own_length_come_out_byte_by_byte(tmp_path, options):
    images = jpegs()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        array = file.create_dataset("images", (7,), dtype=h5py.vlen_dtype(np.uint8), **options)
        for step, image in enumerate(images):
            array[step] = np.frombuffer(image, np.uint8)
    assert list(frames(tmp_path)) == images


def test_the_same_images_have_one_identity_padded_or_not(tmp_path):
    identities = set()
    for width in (2000, 3000):
        write(tmp_path, padded(jpegs(), width))
        identities.add(frames(tmp_path).identity())
    assert len(identities) == 1


def test_vectors_are_read_and_images_are_not(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/qpos"] = np.arange(21.0).reshape(7, 3)
        file["a/rgb"] = FRAMES
        file["a/depth"] = np.zeros((7, 128, 128), np.uint16)
        file["a/flags"] = np.zeros((7, 12), np.uint8)
        file["a/number"] = 3
        file["skipped/rgb"] = FRAMES
    with opened(tmp_path, "x.h5") as content:
        found = dict(columns(content, "x.h5", "", root=tmp_path, file="x.h5", skip=frozenset({"skipped"})))
        small = dict(columns(content["a"], "x.h5", "a", root=tmp_path, file="x.h5", held_bytes=FRAMES.nbytes))
        assert not holds_encoded(content["a/flags"])
    arrays = {key for key, column in found.items() if isinstance(column, np.ndarray)}
    assert arrays == {"a/qpos", "a/flags"} and set(found) == arrays | {"a/rgb", "a/depth"}
    assert np.array_equal(small["a/rgb"], FRAMES)


def test_a_file_cut_after_it_was_listed_is_a_data_error_while_images_are_read(tmp_path):
    write(tmp_path, FRAMES, chunks=(1, 16, 24, 3))
    found = frames(tmp_path)
    content = (tmp_path / "x.h5").read_bytes()
    (tmp_path / "x.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"x\.h5"):
        list(found)


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 240, 320, 3), "compression": "gzip"}])
def test_an_episode_of_many_pixels_is_never_held(tmp_path, options):
    pixels = np.zeros((120, 240, 320, 3), np.uint8)  # 28 MB
    write(tmp_path, pixels, **options)
    found = frames(tmp_path)
    tracemalloc.start()
    assert sum(1 for _ in found) == 120 and len(found.identity()) == 16
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
