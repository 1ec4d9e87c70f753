"""HDF5 files that stay HDF5 files and hold something else: another array in an array's place, links, bombs, absurd
declarations, other attributes."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.fuzz.strange_values import strange, strange_array

CHUNK = (1 << 26,)
"""64 MB of zeros in one packed chunk."""


def edit_hdf5(path: Path, outside: Path, rng: random.Random) -> str:
    """Changes one member or one attribute."""
    import h5py

    with h5py.File(path, "r+") as file:
        members: list[str] = []
        file.visit(members.append)
        attributes = [(name, key) for name in ("/", *members) for key in file[name].attrs]
        if attributes and rng.random() < 0.2:
            name, key = rng.choice(attributes)
            return _edit_attribute(file[name].attrs, key, outside, rng)
        arrays = [name for name in members if isinstance(file[name], h5py.Dataset)]
        name = rng.choice(arrays if arrays and rng.random() < 0.8 else members)
        change = rng.choice(CHANGES)
        change(file, name, next(outside.rglob(path.name), outside), rng)
    return f"{name}: {change.__name__.strip('_')}"


def _edit_attribute(attributes, key: str, outside: Path, rng: random.Random) -> str:
    value = strange(attributes[key], outside, rng)
    del attributes[key]
    try:
        attributes[key] = value
    except (TypeError, ValueError, OSError, OverflowError):
        attributes[key] = rng.choice((np.nan, "", b"\xff\xfe", np.zeros((3, 3)), -1))
    return f"attribute {key}"


def _taken_out(file, name: str, outside: Path, rng: random.Random) -> None:
    del file[name]


def _other_values(file, name: str, outside: Path, rng: random.Random) -> None:
    values = file[name][()] if hasattr(file[name], "shape") else np.zeros(3)
    del file[name]
    plain = isinstance(values, np.ndarray) and values.dtype.kind in "fiub"
    try:
        file[name] = strange_array(values, rng) if plain else rng.choice((np.zeros(3), "text", np.array([b"a"])))
    except TypeError:
        file[name] = np.zeros((2, 2, 2), "S2")


def _too_much_declared(file, name: str, outside: Path, rng: random.Random) -> None:
    """Chunks that were never written take no disk."""
    shape = rng.choice(((10**12,), (10**6, 10**6, 3), (50, 10**5, 10**5, 3), (2**40, 14), (10**9,)))
    chunks = rng.choice((tuple(min(side, 64) for side in shape), None))
    chunks = chunks or (1 << 20, *(1 for _ in shape[1:]))
    dtype = rng.choice((np.uint8, np.float32, np.float64))
    chunks = tuple(min(side, chunk) for side, chunk in zip(shape, chunks, strict=True))
    del file[name]
    file.create_dataset(name, shape, dtype, chunks=chunks)


def _inflating(file, name: str, outside: Path, rng: random.Random) -> None:
    rows = rng.choice((1, 3))
    del file[name]
    bomb = file.create_dataset(name, (rows, *CHUNK), np.uint8, chunks=(1, *CHUNK), compression="gzip")
    bomb[0] = 0


def _variable_lengths(file, name: str, outside: Path, rng: random.Random) -> None:
    import h5py

    del file[name]
    values = file.create_dataset(name, (4,), h5py.vlen_dtype(rng.choice((np.uint8, np.float64))))
    values[0] = np.arange(rng.choice((0, 7, 1_000_000))) % 7


def _group(file, name: str, outside: Path, rng: random.Random) -> None:
    del file[name]
    group = file.create_group(name)
    for _ in range(rng.choice((0, 1, 500))):
        group = group.create_group("a")


def _link_to_itself(file, name: str, outside: Path, rng: random.Random) -> None:
    import h5py

    del file[name]
    file[name] = h5py.SoftLink("/" + name)


def _link_to_the_group_above(file, name: str, outside: Path, rng: random.Random) -> None:
    """A hard link, so that the tree has no end."""
    parent = file[name].parent
    del file[name]
    file[name] = parent


def _link_to_another_file(file, name: str, outside: Path, rng: random.Random) -> None:
    import h5py

    del file[name]
    file[name] = h5py.ExternalLink(str(outside), "/" + name)


def _data_in_another_file(file, name: str, outside: Path, rng: random.Random) -> None:
    del file[name]
    file.create_dataset(name, (8, 8), np.uint8, external=[(str(outside), 0, 64)])


def _virtual(file, name: str, outside: Path, rng: random.Random) -> None:
    import h5py

    shape = getattr(file[name], "shape", None) or (4,)
    del file[name]
    layout = h5py.VirtualLayout(shape, np.float64)
    layout[...] = h5py.VirtualSource(str(outside), name, shape)
    file.create_virtual_dataset(name, layout)


CHANGES: tuple[Callable, ...] = (
    _taken_out,
    _other_values,
    _other_values,
    _other_values,
    _too_much_declared,
    _inflating,
    _variable_lengths,
    _group,
    _link_to_itself,
    _link_to_the_group_above,
    _link_to_another_file,
    _data_in_another_file,
    _virtual,
)
