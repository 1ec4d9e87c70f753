"""tf.train.Example parsing against TensorFlow's own message class, as TFDS ships it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.ingest.example_proto import ExampleError, decode_varints, parse_example

INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.lists(INT64), st.lists(st.floats(width=32, allow_nan=False)), st.lists(st.binary(max_size=300), min_size=1)
)


def reference_example(values: dict):
    example_pb2 = pytest.importorskip("tensorflow_datasets.proto.tf_example_generated_pb2")
    example = example_pb2.Example()
    for name, items in values.items():
        feature = example.features.feature[name]
        if items and isinstance(items[0], bytes):
            feature.bytes_list.value.extend(items)
        elif items and isinstance(items[0], float):
            feature.float_list.value.extend(items)
        else:
            feature.int64_list.value.extend(items)
    return example


@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=5))
@settings(deadline=None, max_examples=60)
def test_any_example_reads_back_as_it_was_written(values):
    parsed = parse_example(reference_example(values).SerializeToString())
    assert parsed.keys() == values.keys()
    for name, items in values.items():
        assert list(parsed[name]) == items


@given(st.lists(st.one_of(INT64, st.integers(0, 127)), min_size=1))
@settings(deadline=None, max_examples=100)
def test_varints_decode_to_int64(numbers):
    example = reference_example({"n": numbers})
    decoded = parse_example(example.SerializeToString())["n"]
    assert decoded.dtype == np.int64 and decoded.tolist() == numbers


@pytest.mark.parametrize("packed", [b"\x80", b"\x01\xff", b"\xff" * 10 + b"\x01"])
def test_a_broken_varint_is_refused(packed):
    with pytest.raises(ExampleError):
        decode_varints(packed)


def test_bytes_that_are_no_example_are_refused():
    with pytest.raises(ExampleError, match=r"not a tf\.train\.Example"):
        parse_example(b"\x0a\xff\xff\xff\xff")


def test_a_list_of_numbers_that_is_not_packed_is_refused_not_misread():
    unpacked_float = b"\x0d" + np.float32(1.5).tobytes()
    feature = b"\x12" + bytes([len(unpacked_float)]) + unpacked_float
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    with pytest.raises(ExampleError, match=r"'x'.*not packed"):
        parse_example(b"\x0a" + bytes([len(features)]) + features)
