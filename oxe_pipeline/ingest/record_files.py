"""Records out of the three kinds of files that TFDS writes: TFRecord, ArrayRecord and Parquet. No TensorFlow.

A TFRecord file is a row of [length uint64 LE][masked CRC32C of the length][data][masked CRC32C of the data]. The
length is always checked, so a cut or overwritten file is noticed at the first broken record; the data's own checksum
costs more than reading it and is checked on request.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.crc32c import masked_crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
READ_AHEAD_BYTES = 1 << 20
PARQUET_BATCH = 16


def read_records(path: str | Path, *, check_data: bool = False) -> Iterator[bytes]:
    """The records of one shard file in order; the format is taken from the file's name, as TFDS does.

    `check_data` also verifies the checksum of each TFRecord's data (about 0.1 GB/s); the other two formats carry their
    own. Raises DataError with file name and byte offset where the file is cut short or damaged.
    """
    path = Path(path)
    if ".array_record" in path.name:
        return _read_array_record(path)
    if ".parquet" in path.name:
        return _read_parquet(path)
    return _read_tfrecord(path, check_data)


def _read_tfrecord(path: Path, check_data: bool) -> Iterator[bytes]:
    size = path.stat().st_size
    with open(path, "rb", buffering=READ_AHEAD_BYTES) as file:
        offset = 0
        while offset < size:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise _damage(path, offset, f"cut short: {len(header)} of the {_HEADER.size} bytes of a record's head")
            length, length_crc = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != length_crc:
                raise _damage(path, offset, "a record's length does not fit its checksum; the file is damaged")
            left = size - offset - _HEADER.size
            if length + _FOOTER.size > left:
                raise _damage(path, offset, f"cut short: a record of {length} bytes, {max(left, 0)} bytes left")
            data = file.read(length)
            (data_crc,) = _FOOTER.unpack(file.read(_FOOTER.size))
            if check_data and masked_crc32c(data) != data_crc:
                raise _damage(
                    path, offset, f"a record of {length} bytes does not fit its checksum; the file is damaged"
                )
            yield data
            offset += _HEADER.size + length + _FOOTER.size


def _read_array_record(path: Path) -> Iterator[bytes]:
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError:
        raise ImportError(f"{path}: ArrayRecord files need a package: pip install array_record") from None
    number = 0
    try:
        reader = ArrayRecordReader(str(path))
        for number in range(reader.num_records()):
            yield reader.read([number])[0]
        reader.close()
    except (RuntimeError, ValueError, IndexError) as error:
        raise _damage(path, 0, f"record {number} of an ArrayRecord file does not read ({_one_line(error)})") from None


def _read_parquet(path: Path) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.ParquetFile(path)
        if "data" not in content.schema_arrow.names:
            raise _damage(path, 0, "not a Parquet file that TFDS wrote (it has no column `data`)")
        for batch in content.iter_batches(batch_size=PARQUET_BATCH, columns=["data"]):
            for value in batch.column(0):
                yield value.as_py()
    except (pa.ArrowInvalid, OSError) as error:
        raise _damage(path, 0, f"not a Parquet file that TFDS wrote ({_one_line(error)})") from None


def _damage(path: Path, offset: int, reason: str) -> DataError:
    return DataError(f"{path}: at byte {offset}: {reason}", dataset=path.parent.name, episode=path.name, field="record")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
