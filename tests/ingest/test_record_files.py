"""Record files: what is whole reads whole, and what is damaged is refused with the file and the byte."""

import re
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.crc32c import crc32c, masked_crc32c
from oxe_pipeline.ingest.record_files import read_records

RECORDS = [b"first", b"", b"x" * 1000, bytes(range(256)) * 9]


def tfrecord(records) -> bytes:
    pieces = []
    for record in records:
        length = struct.pack("<Q", len(record))
        pieces += [length, struct.pack("<I", masked_crc32c(length)), record, struct.pack("<I", masked_crc32c(record))]
    return b"".join(pieces)


def bitwise_crc32c(data: bytes) -> int:
    """The definition, bit by bit (RFC 3720, appendix B.4): an independent reference."""
    register = 0xFFFFFFFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@given(st.binary(max_size=2000))
@settings(deadline=None, max_examples=50)
def test_crc32c_is_that_of_its_definition(data):
    assert crc32c(data) == bitwise_crc32c(data)


def test_crc32c_of_the_published_test_vectors():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_tfrecord_written_by_tensorflow_reads_with_all_checksums(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = tmp_path / "a.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert list(read_records(path, check_data=True)) == RECORDS
    assert path.read_bytes() == tfrecord(RECORDS)


@pytest.mark.parametrize("cut", [1, 4, 11, 13, 30, 900])
def test_a_cut_file_gives_the_whole_records_and_then_names_file_and_byte(tmp_path, cut):
    whole = tfrecord(RECORDS)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(whole[:-cut])
    reader = read_records(path)
    assert [next(reader) for _ in RECORDS[:-1]] == RECORDS[:-1]
    with pytest.raises(DataError, match=re.escape(f"{path}: at byte {len(tfrecord(RECORDS[:-1]))}: cut short")):
        next(reader)


def test_a_changed_length_is_always_noticed(tmp_path):
    content = bytearray(tfrecord(RECORDS))
    content[0] ^= 1
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"at byte 0.*checksum"):
        next(read_records(path))


def test_a_changed_byte_of_data_is_noticed_on_request(tmp_path):
    content = bytearray(tfrecord(RECORDS))
    content[13] ^= 1
    path = tmp_path / "a.tfrecord"
    path.write_bytes(content)
    assert len(list(read_records(path))) == len(RECORDS)
    with pytest.raises(DataError, match=r"at byte 0.*checksum"):
        list(read_records(path, check_data=True))


@pytest.mark.parametrize("suffix", ["array_record", "parquet"])
def test_a_file_that_is_not_of_its_kind_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}-00000-of-00001"
    path.write_bytes(b"not at all" * 100)
    with pytest.raises(DataError, match=re.escape(path.name)) as caught:
        list(read_records(path))
    assert "\n" not in str(caught.value)


def test_a_parquet_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "a.parquet-00000-of-00001"
    pq.write_table(pa.table({"price": [1.0, 2.0]}), path)
    with pytest.raises(DataError, match="it has no column `data`"):
        list(read_records(path))
