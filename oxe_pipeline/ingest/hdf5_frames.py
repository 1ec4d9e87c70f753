"""Images of one camera inside an HDF5 file, handed out one at a time: bare pixels [T, H, W, 3], or encoded images as
padded rows [T, N] or as bytes of their own length [T].

The file is opened anew for each pass and stays open during it. An episode's pixels are read twice, once for its id and
once to be encoded; encoding takes ten times as long as reading.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from oxe_pipeline.episode import DataError, Frames
from oxe_pipeline.ingest.hdf5_file import arrays, opened, own_array, read_whole, reading
from oxe_pipeline.ingest.hdf5_limits import MAX_EPISODE_BYTES, SLAB_BYTES, check_array
from oxe_pipeline.quality.image_headers import is_jpeg, is_png

MIN_ENCODED_BYTES = 256
"""A row of fewer bytes is a vector of small numbers, not an image."""
MAX_NUMBERS_BYTES = 16 << 10
"""A row of more bytes is no vector of a robot."""
READ_BYTES = 1 << 20
"""Read at once where chunks are smaller: each call into the library costs as much as copying some 100 kB."""
GUESSED_IMAGE_BYTES = 128 << 10
"""Of an encoded image whose length is not known before it is read."""


@dataclass(frozen=True, kw_only=True)
class HDF5Frames(Frames):
    """Rows `start` to `stop` of one image array."""

    root: Path
    file: str
    array: str
    """Path of the array inside the file."""
    episode: str
    """Named in errors."""
    encoded: bool
    """Whether rows are JPEG or PNG bytes, not pixels."""
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[np.ndarray | bytes]:
        """T images: uint8 [H, W, 3] views of a short-lived block, or JPEG or PNG bytes without the padding after them.

        Raises DataError naming file and array when it is damaged, or beyond the limits of `hdf5_limits`.
        """
        with opened(self.root, self.file) as content, reading(self.episode, self.array):
            array = own_array(content, self.array, self.episode)
            check_array(array, self.episode, self.array, whole=False)
            rows = _rows_at_once(array)
            for first in range(self.start - self.start % rows, self.stop, rows):
                block = array[max(first, self.start) : min(first + rows, self.stop)]
                for row in block:
                    yield _cut(row) if self.encoded else row

    def identity(self) -> bytes:
        """A hash of all images as handed out: how the array is chunked or compressed does not count."""
        digest = xxhash.xxh3_128()
        for image in self:
            shape = (len(image),) if isinstance(image, bytes) else image.shape
            digest.update(f"{shape}".encode())
            digest.update(image if isinstance(image, bytes) else image.tobytes())
        return digest.digest()


def frames_of(array, *, root: str | Path, file: str, episode: str, drop_last: int = 0) -> HDF5Frames:
    """The images of an open h5py array, without the last `drop_last`. Nothing but the shape is read. DataError where it
    is one value and no array."""
    with reading(episode, array.name):
        if not array.shape:
            raise DataError("is a single value, must be an image a step", episode=episode, field=array.name)
        return HDF5Frames(
            root=Path(root),
            file=file,
            array=array.name.strip("/"),
            episode=episode,
            encoded=holds_encoded(array),
            start=0,
            stop=max(0, array.shape[0] - drop_last),
        )


def columns(
    group,
    episode: str,
    prefix: str,
    *,
    root: str | Path,
    file: str,
    skip: frozenset[str] = frozenset(),
    drop_last: int = 0,
    held_bytes: int = 0,
) -> Iterator[tuple[str, np.ndarray | HDF5Frames]]:
    """(flat key, column [T - drop_last, ...]) of every array below the group: numbers read whole, images as frames.

    Pixels of up to `held_bytes` are read whole too. `skip`: names of the group's own members that are left out.
    Raises DataError naming the array that is damaged or beyond the limits, for itself or with those before it.
    """
    read_bytes = 0
    for key, array in arrays(group, episode, prefix, skip=skip):
        with reading(episode, key):
            is_small = array.ndim == 4 and array.nbytes <= held_bytes
            is_image = holds_images(array)
        if is_image and not is_small:
            yield key, frames_of(array, root=root, file=file, episode=episode, drop_last=drop_last)
        else:
            read_bytes += array.nbytes
            if read_bytes > MAX_EPISODE_BYTES:
                reason = f"with the columns before it {read_bytes} bytes; at most {MAX_EPISODE_BYTES} are read whole"
                raise DataError(reason, episode=episode, field=key)
            values = read_whole(array, episode, key)
            yield key, values[: len(values) - drop_last]


def holds_images(array) -> bool:
    """Whether an array's rows are images, depth or clouds: too much to be read whole unless somebody asks for them."""
    row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.float64))
    return array.ndim >= 4 or holds_encoded(array) or row_bytes > MAX_NUMBERS_BYTES


def holds_encoded(array) -> bool:
    """Whether an array's rows are bytes of encoded images: one byte wide, or of variable length."""
    import h5py

    base = h5py.check_vlen_dtype(array.dtype)
    if array.ndim == 1:
        return (base is not None and base.itemsize == 1) or array.dtype.kind == "S"
    return array.ndim == 2 and array.dtype == np.uint8 and array.shape[1] >= MIN_ENCODED_BYTES


def _rows_at_once(array) -> int:
    """Whole chunks, so that each is inflated once, as far as SLAB_BYTES go; several where they are small."""
    row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    row_bytes = GUESSED_IMAGE_BYTES if array.dtype == object else max(1, row_bytes)
    unit = max(1, min(array.chunks[0] if array.chunks else 1, SLAB_BYTES // row_bytes))
    return unit * max(1, READ_BYTES // (unit * row_bytes))


def _cut(row: object) -> bytes:
    """One encoded image without the zeros that fill its row: neither a JPEG nor a PNG ends in a zero."""
    if isinstance(row, np.ndarray) and row.dtype.itemsize == 1:
        data = row.tobytes()
    elif isinstance(row, bytes | np.bytes_):
        data = bytes(row)
    else:
        raise TypeError(f"an image must be bytes, is {type(row).__name__}")
    return data.rstrip(b"\0") if is_jpeg(data) or is_png(data) else data
