"""tf.train.Example parsed without TensorFlow: one message in, numpy arrays and lists of bytes out.

The wire format is TensorFlow's (tensorflow/core/example/{example,feature}.proto), with one twist: `FloatList.value` and
`Int64List.value` are declared as `bytes` here. A packed list of numbers and a byte string look the same on the wire, so
protobuf hands over the whole list in one piece instead of one Python number at a time; that alone is worth a factor of
1.6. Lists that are not packed (no TFDS writer makes them) are refused rather than misread.
"""

from functools import cache

import numpy as np

FLOAT32_LE = np.dtype("<f4")


class ExampleError(ValueError):
    """Bytes that are not a tf.train.Example, or not one that TFDS wrote."""


@cache
def _example_class():
    from google.protobuf import descriptor_pool, message_factory
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

    once, many = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    text, octets, message = (
        FieldDescriptorProto.TYPE_STRING,
        FieldDescriptorProto.TYPE_BYTES,
        FieldDescriptorProto.TYPE_MESSAGE,
    )
    file = FileDescriptorProto(name="example_proto.proto", package="example_proto", syntax="proto3")
    for name in ("BytesList", "FloatList", "Int64List"):
        file.message_type.add(name=name).field.add(name="value", number=1, label=many, type=octets)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, type_name) in enumerate(
        [("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")], start=1
    ):
        feature.field.add(
            name=name, number=number, label=once, type=message, type_name=f".example_proto.{type_name}", oneof_index=0
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=once, type=text)
    entry.field.add(name="value", number=2, label=once, type=message, type_name=".example_proto.Feature")
    features.field.add(
        name="feature", number=1, label=many, type=message, type_name=".example_proto.Features.FeatureEntry"
    )
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=once, type=message, type_name=".example_proto.Features")
    # A pool of its own: TensorFlow, should somebody load it beside us, registers its Example in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("example_proto.Example"))


def parse_example(record: bytes) -> dict[str, list[bytes] | np.ndarray]:
    """Feature name to its flat values: list of bytes, float32 [n] or int64 [n]; an empty feature is an empty list.

    Arrays are read-only views where no conversion is needed. Raises ExampleError for bytes that do not parse.
    """
    from google.protobuf.message import DecodeError

    try:
        features = _example_class().FromString(record).features.feature
    except DecodeError as error:
        raise ExampleError(f"not a tf.train.Example ({error})") from None
    values: dict[str, list[bytes] | np.ndarray] = {}
    for name, feature in features.items():
        if feature.HasField("bytes_list"):
            values[name] = list(feature.bytes_list.value)
        elif feature.HasField("float_list"):
            values[name] = _floats(_packed(feature.float_list, name), name)
        elif feature.HasField("int64_list"):
            values[name] = decode_varints(_packed(feature.int64_list, name))
        else:
            values[name] = []
    return values


def _packed(numbers, name: str) -> bytes:
    pieces = numbers.value
    if not pieces and numbers.ByteSize():
        raise ExampleError(f"feature {name!r} is a list of numbers that is not packed; rewrite the file with TFDS")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _floats(packed: bytes, name: str) -> np.ndarray:
    if len(packed) % FLOAT32_LE.itemsize:
        raise ExampleError(f"feature {name!r}: {len(packed)} bytes are not a whole number of floats")
    return np.frombuffer(packed, FLOAT32_LE)


def decode_varints(packed: bytes) -> np.ndarray:
    """int64 [n] from protobuf varints one after the other (7 bits a byte, low ones first; the last below 128)."""
    octets = np.frombuffer(packed, np.uint8)
    is_last = octets < 128
    if is_last.all():  # every number is below 128: flags, labels, short counts
        return octets.astype(np.int64)
    if not is_last[-1]:
        raise ExampleError("a list of integers ends in the middle of a number")
    stops = np.flatnonzero(is_last)
    starts = np.concatenate(([0], stops[:-1] + 1))
    lengths = stops - starts + 1
    if lengths.max() > 10:
        raise ExampleError("an integer is longer than the ten bytes a 64-bit number may take")
    place = np.arange(len(octets)) - np.repeat(starts, lengths)
    parts = (octets & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)
