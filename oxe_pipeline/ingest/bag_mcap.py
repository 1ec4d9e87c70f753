"""MCAP files read from front to back: ROS 1 and 2 messages, JSON and protobuf, by each file's own definitions.

The mcap package parses records; chunks are opened here, because it decompresses them without a bound. Reading in order
needs no index and notices damage by the checksums; the price is that chunks without a wanted topic are opened too.
"""

import functools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.align_columns import FOREVER_NS
from oxe_pipeline.ingest.bag_files import MAX_CHUNK_BYTES, Bag
from oxe_pipeline.ingest.bounded_decompression import decompress_lz4_frame, decompress_zstd

_INSTALL = "reading MCAP needs mcap: pip install 'oxe-pipeline[raw]'"
_SCHEMA, _CHANNEL, _MESSAGE = 0x03, 0x04, 0x05
_MESSAGE_HEADER_BYTES = 22

Decoder = Callable[[bytes], object]


class McapBag(Bag):
    """One recording in one or several MCAP files, which follow each other in time."""

    def __init__(self, files: list[Path], path: str):
        self._path = path
        self._files = [(file, self._definitions_of(file)) for file in files]
        self.topics = frozenset(topic for _, definitions in self._files for topic in definitions.topics())

    def _definitions_of(self, file: Path) -> "_Definitions":
        """From the summary at the file's end, or, without one, by reading the file once."""
        try:
            from mcap.reader import SeekingReader
        except ImportError as error:
            raise ImportError(_INSTALL) from error
        definitions = _Definitions(self._path)
        try:
            with file.open("rb") as stream:
                summary = SeekingReader(stream, record_size_limit=MAX_CHUNK_BYTES).get_summary()
        except Exception as error:  # struct.error, ValueError, mcap's own: no common base
            raise self._damaged(file, error) from None
        if summary is not None and summary.channels:
            definitions.add(summary.schemas.values(), summary.channels.values())
        else:
            for _ in definitions.messages_in(self._chunks(file, 0, FOREVER_NS), frozenset()):
                pass
        return definitions

    def messages(
        self, topics: Iterable[str], start_ns: int = 0, stop_ns: int = FOREVER_NS
    ) -> Iterator[tuple[str, int, object]]:
        wanted = frozenset(topics)
        latest: dict[str, int] = {}
        for file, definitions in self._files:
            for time_ns, channel_id, data in definitions.messages_in(self._chunks(file, start_ns, stop_ns), wanted):
                topic = definitions.topic(channel_id)
                if time_ns < latest.get(topic, 0):
                    reason = f"{file.name}: messages are not in order of time; write it again with mcap sort"
                    raise DataError(reason, episode=self._path, field=topic)
                latest[topic] = time_ns
                if start_ns <= time_ns < stop_ns:
                    yield topic, time_ns, definitions.decoded(channel_id, data)

    def _chunks(self, file: Path, start_ns: int, stop_ns: int) -> Iterator[list[tuple[int, bytes]]]:
        """The records (kind, content) of schemas, channels and messages, a chunk at a time; chunks outside of the times
        are not opened."""
        from mcap.records import Channel, Chunk, Message, Schema
        from mcap.stream_reader import StreamReader

        try:
            with file.open("rb") as stream:
                reader = StreamReader(stream, emit_chunks=True, validate_crcs=True, record_size_limit=MAX_CHUNK_BYTES)
                for record in reader.records:
                    if isinstance(record, Chunk):
                        if record.message_start_time < stop_ns and record.message_end_time >= start_ns:
                            yield list(_split(_decompressed(record)))
                    elif isinstance(record, Schema | Channel | Message):
                        yield list(_split(_written(record)))
        except Exception as error:  # as above
            raise self._damaged(file, error) from None

    def _damaged(self, file: Path, error: Exception) -> DataError:
        if isinstance(error, DataError):
            return error
        what = " ".join(str(error).split())[:300] or type(error).__name__
        reason = f"{file.name} is damaged or cut short: {what}; copy it again, or repair it with mcap recover"
        return DataError(reason, episode=self._path, field="bag")


class _Definitions:
    """The schemas and channels of one file, as far as they are known."""

    def __init__(self, path: str):
        self._path = path
        self._schemas: dict = {}
        self._channels: dict = {}
        self._decoders: dict[int, Decoder] = {}

    def add(self, schemas: Iterable, channels: Iterable) -> None:
        self._schemas |= {schema.id: schema for schema in schemas}
        self._channels |= {channel.id: channel for channel in channels}

    def topics(self) -> set[str]:
        return {channel.topic for channel in self._channels.values()}

    def topic(self, channel_id: int) -> str:
        if channel_id not in self._channels:
            reason = f"a message of channel {channel_id}, which is nowhere described"
            raise DataError(reason, episode=self._path, field="bag")
        return self._channels[channel_id].topic

    def messages_in(
        self, chunks: Iterable[list[tuple[int, bytes]]], wanted: frozenset[str]
    ) -> Iterator[tuple[int, int, bytes]]:
        """(time of receipt in ns, channel, data) of the wanted topics, in order of time within each chunk. Definitions
        that stand between the messages are added."""
        for records in chunks:
            messages = []
            for kind, content in records:
                if kind in (_SCHEMA, _CHANNEL):
                    self._define(kind, content)
                elif kind == _MESSAGE and self.topic(channel_id := int.from_bytes(content[:2], "little")) in wanted:
                    time_ns = int.from_bytes(content[6:14], "little")
                    messages.append((time_ns, channel_id, content[_MESSAGE_HEADER_BYTES:]))
            messages.sort(key=lambda message: message[0])
            yield from messages

    def _define(self, kind: int, content: bytes) -> None:
        from mcap.data_stream import ReadDataStream
        from mcap.records import Channel, Schema

        stream = ReadDataStream(BytesIO(content))
        try:
            if kind == _SCHEMA:
                self.add([Schema.read(stream)], [])
            else:
                self.add([], [Channel.read(stream)])
        except Exception as error:  # mcap.exceptions.EndOfFile, UnicodeDecodeError ...
            reason = f"a definition is damaged: {' '.join(str(error).split()) or type(error).__name__}"
            raise DataError(reason, episode=self._path, field="bag") from None

    def decoded(self, channel_id: int, data: bytes) -> object:
        """The message. DataError naming the topic when it does not decode."""
        channel = self._channels[channel_id]
        try:
            if channel_id not in self._decoders:
                self._decoders[channel_id] = _decoder(channel, self._schemas.get(channel.schema_id))
            return self._decoders[channel_id](data)
        except ImportError:
            raise
        except Exception as error:  # a damaged message raises almost anything
            what = " ".join(str(error).split())[:300] or type(error).__name__
            reason = f"a message of encoding {channel.message_encoding!r} does not decode: {what}"
            raise DataError(reason, episode=self._path, field=channel.topic) from None


def _decoder(channel, schema) -> Decoder:
    """What makes messages of a channel out of bytes. Raises ValueError for an encoding that is not read."""
    if channel.message_encoding == "json":
        return json.loads
    if schema is None:
        raise ValueError("its channel names no schema")
    if channel.message_encoding == "protobuf":
        return _protobuf_decoder(schema)
    if channel.message_encoding in ("cdr", "ros1"):
        return _ros_decoder(channel.message_encoding, schema.name, schema.encoding, schema.data)
    raise ValueError("cdr, ros1, json and protobuf are read")


@functools.lru_cache(maxsize=32)
def _ros_decoder(encoding: str, name: str, schema_encoding: str, schema: bytes) -> Decoder:
    """Kept for the next bag, because a decoder takes longer to make than a short bag to read."""
    try:
        from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
    except ImportError as error:
        raise ImportError("reading ROS messages needs rosbags: pip install 'oxe-pipeline[raw]'") from error
    package, _, name = name.rpartition("/")
    message_type = f"{package.removesuffix('/msg')}/msg/{name}"
    text = schema.decode()
    store = get_typestore(Stores.EMPTY)
    if schema_encoding == "ros2idl":
        parts = text.split("=" * 80 + "\n")
        for part in parts:
            store.register(get_types_from_idl(part.partition("\n")[2] if part.startswith("IDL: ") else part))
    else:
        store.register(get_types_from_msg(text, message_type))
    if encoding == "ros1":
        return functools.partial(store.deserialize_ros1, typename=message_type)
    return functools.partial(store.deserialize_cdr, typename=message_type)


def _protobuf_decoder(schema) -> Decoder:
    """Messages of the type that the schema's own file descriptors describe; fields keep their names in the .proto."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise ImportError("reading protobuf needs protobuf: pip install 'oxe-pipeline[raw]'") from error
    files = descriptor_pb2.FileDescriptorSet.FromString(schema.data).file
    waiting = {file.name: file for file in files}
    pool = descriptor_pool.DescriptorPool()

    def add(name: str) -> None:
        if file := waiting.pop(name, None):
            for dependency in file.dependency:
                add(dependency)
            pool.Add(file)

    for file in files:
        add(file.name)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name)).FromString


def _decompressed(chunk) -> bytes:
    """A chunk's records. Raises ValueError when it is larger than it says or allowed, or damaged."""
    limit = min(chunk.uncompressed_size, MAX_CHUNK_BYTES)
    match chunk.compression:
        case "zstd":
            plain = decompress_zstd(chunk.data, limit)
        case "lz4":
            plain = decompress_lz4_frame(chunk.data, limit)
        case "":
            plain = chunk.data
        case other:
            raise ValueError(f"chunk compression {other!r} is not read")
    if len(plain) != chunk.uncompressed_size:
        raise ValueError(f"a chunk holds {len(plain)} bytes and says {chunk.uncompressed_size}")
    if chunk.uncompressed_crc and zlib.crc32(plain) != chunk.uncompressed_crc:
        raise ValueError("the checksum of a chunk does not fit")
    return plain


def _split(records: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of records that lie end to end."""
    place = 0
    while place < len(records):
        kind, length = records[place], int.from_bytes(records[place + 1 : place + 9], "little")
        place += 9
        if place + length > len(records):
            raise ValueError("a record in a chunk is cut short")
        yield kind, records[place : place + length]
        place += length


def _written(record) -> bytes:
    """A record that stands outside of chunks, as the bytes it had."""
    from mcap.data_stream import RecordBuilder

    builder = RecordBuilder()
    record.write(builder)
    return builder.end()
