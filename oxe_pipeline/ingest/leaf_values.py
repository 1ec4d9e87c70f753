"""Flat lists of a tf.train.Example back to the arrays that TFDS features describe: dtype, shape, nesting, encoding.

Equal to what `tfds.as_numpy` gives with images left undecoded, value for value and dtype for dtype; tests compare them.
"""

import math

import numpy as np

from oxe_pipeline.ingest.bounded_decompression import decompress_zlib
from oxe_pipeline.ingest.example_proto import ExampleError
from oxe_pipeline.ingest.features_json import Leaf

FlatValues = dict[str, "list[bytes] | np.ndarray"]
MAX_UNPACKED_BYTES = 1 << 26
"""Of one compressed value whose size features.json leaves open; a few bytes of zlib can become gigabytes."""


def leaf_value(leaf: Leaf, values: FlatValues):
    """The value of one leaf of an episode; `values` are those of `parse_example`.

    Numbers: an array whose first axis is the sequence, or a numpy scalar. Text and images: bytes, or a list of bytes.
    Sequences inside sequences: a list of the former. Raises ExampleError naming the key when something is absent or
    does not fit the shape.
    """
    try:
        if len(leaf.sequences) > 1:
            return _ragged(leaf, values)
        elements, count = _elements(leaf, leaf.key, values)
        if not leaf.sequences:
            if count != 1:
                raise ExampleError(f"{count} values where one is expected")
            return elements[0]
        return elements
    except ExampleError as error:
        raise ExampleError(f"{leaf.key}: {error}") from None
    except (ValueError, TypeError) as error:
        raise ExampleError(f"{leaf.key}: does not fit shape {list(leaf.shape)} of {leaf.dtype} ({error})") from None


def _ragged(leaf: Leaf, values: FlatValues):
    """Nested sequences: all elements in one list, and a list of row lengths for each level but the outermost."""
    elements, _ = _elements(leaf, f"{leaf.key}/ragged_flat_values", values)
    for level in reversed(range(len(leaf.sequences) - 1)):
        lengths = values.get(f"{leaf.key}/ragged_row_lengths_{level}", [])
        stops = np.cumsum(np.asarray(lengths, np.int64)).tolist()
        if (stops[-1] if stops else 0) != len(elements):
            raise ExampleError(f"row lengths add up to {stops[-1] if stops else 0}, there are {len(elements)} elements")
        elements = [elements[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
    return elements


def _elements(leaf: Leaf, key: str, values: FlatValues):
    """All elements of a leaf along one axis, and how many they are."""
    if leaf.is_dynamic:
        shapes = np.asarray(values.get(f"{key}/shape", []), np.int64).reshape(-1, len(leaf.shape))
        arrays = [
            _unpack(leaf, data, tuple(shape))
            for data, shape in zip(_stored(leaf, f"{key}/value", values), shapes.tolist(), strict=True)
        ]
        return arrays, len(arrays)
    stored = _stored(leaf, key, values)
    if leaf.encoding != "none":
        shape = tuple(-1 if size is None else size for size in leaf.shape)
        arrays = [_unpack(leaf, data, shape) for data in stored]
        return (arrays if None in leaf.shape else _stacked(leaf, arrays)), len(arrays)
    if leaf.dtype == object:
        return _texts(leaf, stored)
    return _numbers(leaf, stored)


def _stored(leaf: Leaf, key: str, values: FlatValues):
    if key in values:
        return values[key]
    if leaf.sequences or None in leaf.shape:
        return []  # TFDS leaves out what is empty
    if leaf.optional:
        return [_default(leaf)]
    raise ExampleError("absent from the record, but features.json declares it")


def _default(leaf: Leaf):
    """What TFDS gives for an optional value that is not there."""
    if leaf.dtype == object:
        return b""
    if leaf.dtype == bool:
        return False
    limits = np.iinfo(leaf.dtype) if leaf.dtype.kind in "iu" else np.finfo(leaf.dtype)
    return np.full(leaf.shape, limits.min, leaf.dtype)


def _texts(leaf: Leaf, stored):
    if len(stored) and not isinstance(stored[0], bytes):
        raise ExampleError(f"holds numbers, features.json declares {leaf.kind}")
    if not leaf.shape:
        return stored, len(stored)
    table = np.empty(len(stored), object)
    table[:] = stored
    return _shaped(leaf, table)


def _numbers(leaf: Leaf, stored):
    if isinstance(stored, list) and stored and isinstance(stored[0], bytes):
        raise ExampleError(f"holds bytes, features.json declares {leaf.dtype}")
    flat = np.asarray(stored).reshape(-1)
    if leaf.dtype == np.uint64 and flat.dtype == np.int64:
        flat = flat.view(np.uint64)  # TFDS stores the bits: tf.train.Example has no unsigned numbers
    return _shaped(leaf, flat.astype(leaf.dtype, copy=False))


def _shaped(leaf: Leaf, flat: np.ndarray):
    """[elements, *shape]; without a sequence around it there is one element, and its one unknown side is the rest."""
    if leaf.sequences:
        size = math.prod(side or 0 for side in leaf.shape)
        if size == 0 or len(flat) % size:
            raise ExampleError(f"{len(flat)} values are no whole number of elements")
        array = flat.reshape(len(flat) // size, *leaf.shape)
    else:
        array = flat.reshape(1, *(-1 if size is None else size for size in leaf.shape))
    return array, len(array)


def _unpack(leaf: Leaf, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    if leaf.encoding == "zlib":
        size = math.prod(shape) * leaf.dtype.itemsize
        data = decompress_zlib(data, size if 0 < size < MAX_UNPACKED_BYTES else MAX_UNPACKED_BYTES)
    array = np.frombuffer(data, leaf.dtype)
    return array.reshape(shape) if shape else array.reshape(1)[0]


def _stacked(leaf: Leaf, arrays: list[np.ndarray]) -> np.ndarray:
    return np.stack(arrays) if arrays else np.empty((0, *(side or 0 for side in leaf.shape)), leaf.dtype)
