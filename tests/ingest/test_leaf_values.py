"""Values of a record against what features.json declares, where the record does not keep to it."""

import zlib

import numpy as np
import pytest

from oxe_pipeline.ingest.example_proto import ExampleError
from oxe_pipeline.ingest.features_json import Leaf
from oxe_pipeline.ingest.leaf_values import MAX_UNPACKED_BYTES, leaf_value

POSE = Leaf(key="pose", kind="number", dtype=np.dtype("<f4"), shape=(7,), encoding="zlib")


def test_a_compressed_tensor_is_unpacked():
    row = np.arange(7, dtype="<f4")
    np.testing.assert_array_equal(leaf_value(POSE, {"pose": [zlib.compress(row.tobytes())]}), row)


@pytest.mark.parametrize("shape", [(7,), (None,)])
def test_a_few_bytes_that_unpack_to_more_than_fits_are_refused(shape):
    leaf = Leaf(key="pose", kind="number", dtype=np.dtype("<f4"), shape=shape, encoding="zlib")
    bomb = zlib.compress(bytes(MAX_UNPACKED_BYTES + 4), 1)
    assert len(bomb) < MAX_UNPACKED_BYTES // 200
    with pytest.raises(ExampleError, match=r"pose: .*decompresses to more than the \d+ bytes that fit there"):
        leaf_value(leaf, {"pose": [bomb]})


@pytest.mark.parametrize("data", [b"not zlib", zlib.compress(bytes(28))[:-6], zlib.compress(bytes(24))])
def test_damaged_and_short_bytes_are_refused(data):
    with pytest.raises(ExampleError, match="pose: does not fit shape"):
        leaf_value(POSE, {"pose": [data]})
