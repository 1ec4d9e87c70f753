"""Bags as files: MCAP with encodings of its own, chunks that are bombs, definitions that are missing."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.bag_files import find_bags, opened_bag
from oxe_pipeline.ingest.bag_messages import numbers_in, stamp_ns, value_at

mcap_writer = pytest.importorskip("mcap.writer")
pytest.importorskip("rosbags")

from samples import rosbag_layout as layout  # noqa: E402

SECOND = 10**9
START = 1_700_000_000 * SECOND


def write_json(path: Path, times_ns, *, channel_topic: str = "/pose", **options) -> None:
    with path.open("wb") as stream:
        writer = mcap_writer.Writer(stream, **options)
        writer.start()
        schema = writer.register_schema("Pose", "jsonschema", b"{}")
        channel = writer.register_channel(channel_topic, "json", schema)
        for number, time_ns in enumerate(times_ns):
            data = json.dumps({"timestamp": {"sec": time_ns // SECOND, "nsec": time_ns % SECOND}, "x": number})
            writer.add_message(channel, time_ns, data.encode(), time_ns)
        writer.finish()


def values(root: Path, path: str, field: str, **times) -> list:
    with opened_bag(root, path) as bag:
        (topic,) = bag.topics
        return [value_at(message, field) for _, _, message in bag.messages([topic], **times)]


@pytest.mark.parametrize("compression", list(mcap_writer.CompressionType))
def test_json_messages_are_read_under_every_compression_of_chunks(tmp_path, compression):
    write_json(tmp_path / "x.mcap", [START + k for k in range(50)], compression=compression, chunk_size=300)
    assert values(tmp_path, "x.mcap", "x") == list(range(50))
    assert values(tmp_path, "x.mcap", "x", start_ns=START + 20, stop_ns=START + 23) == [20, 21, 22]


@pytest.mark.parametrize("options", [{"use_chunking": False}, {"use_summary_offsets": False, "index_types": 0}])
def test_files_without_chunks_or_without_an_index_are_read(tmp_path, options):
    if "index_types" in options:
        options = {
            "index_types": mcap_writer.IndexType.NONE,
            "repeat_channels": False,
            "repeat_schemas": False,
            "use_statistics": False,
            "use_summary_offsets": False,
        }
    write_json(tmp_path / "x.mcap", [START + k for k in range(9)], **options)
    assert values(tmp_path, "x.mcap", "x") == list(range(9))


def test_protobuf_messages_are_read_by_the_descriptors_in_the_file(tmp_path):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    described = descriptor_pb2.FileDescriptorProto(name="pose.proto", package="lab", syntax="proto3")
    described.dependency.append("google/protobuf/timestamp.proto")
    message = described.message_type.add(name="Pose")
    message.field.add(name="timestamp", number=1, type=11, label=1, type_name=".google.protobuf.Timestamp")
    message.field.add(name="x", number=2, type=1, label=3)
    stamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(stamp)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(stamp)
    pool.Add(described)
    pose = message_factory.GetMessageClass(pool.FindMessageTypeByName("lab.Pose"))
    with (tmp_path / "x.mcap").open("wb") as stream:
        writer = mcap_writer.Writer(stream)
        writer.start()
        # The dependency stands behind what needs it, as writers may have it.
        files = descriptor_pb2.FileDescriptorSet(file=[described, stamp])
        schema = writer.register_schema("lab.Pose", "protobuf", files.SerializeToString())
        channel = writer.register_channel("/pose", "protobuf", schema)
        data = pose(timestamp={"seconds": 1_700_000_000, "nanos": 5}, x=[0.5, 2.5]).SerializeToString()
        writer.add_message(channel, START, data, START)
        writer.finish()
    with opened_bag(tmp_path, "x.mcap") as bag:
        [(_, _, read)] = bag.messages(["/pose"])
    assert numbers_in(read, ["x"]).tolist() == [0.5, 2.5] and stamp_ns(read) == START + 5


def test_messages_out_of_order_over_chunks_are_a_fault_with_a_remedy(tmp_path):
    write_json(tmp_path / "x.mcap", [START + 9, START + 3, START + 20, START + 12], chunk_size=100_000)
    assert values(tmp_path, "x.mcap", "x") == [1, 0, 3, 2]  # within a chunk they are sorted
    write_json(tmp_path / "y.mcap", [START + 9, START + 3], chunk_size=1)
    with pytest.raises(DataError, match="not in order of time; write it again with mcap sort"):
        values(tmp_path, "y.mcap", "x")


def test_topics_need_no_common_order_because_recorders_write_them_in_threads(tmp_path):
    with (tmp_path / "x.mcap").open("wb") as stream:
        writer = mcap_writer.Writer(stream, chunk_size=1)
        writer.start()
        schema = writer.register_schema("Pose", "jsonschema", b"{}")
        channels = {topic: writer.register_channel(topic, "json", schema) for topic in ("/a", "/b")}
        for topic, time_ns in (("/a", 9), ("/b", 3), ("/a", 12), ("/b", 10)):
            writer.add_message(channels[topic], START + time_ns, json.dumps({"x": time_ns}).encode(), START)
        writer.finish()
    with opened_bag(tmp_path, "x.mcap") as bag:
        read = [(topic, time_ns - START, message["x"]) for topic, time_ns, message in bag.messages(["/a", "/b"])]
    assert read == [("/a", 9, 9), ("/b", 3, 3), ("/a", 12, 12), ("/b", 10, 10)]


def test_a_flipped_bit_is_noticed_by_the_checksum(tmp_path):
    write_json(tmp_path / "x.mcap", [START + k for k in range(9)], compression=mcap_writer.CompressionType.NONE)
    content = bytearray((tmp_path / "x.mcap").read_bytes())
    content[content.index(b'"x": 4') + 5] = ord("7")
    (tmp_path / "x.mcap").write_bytes(content)
    with pytest.raises(DataError, match="the checksum of a chunk does not fit"):
        values(tmp_path, "x.mcap", "x")


def test_an_unknown_encoding_is_named(tmp_path):
    with (tmp_path / "x.mcap").open("wb") as stream:
        writer = mcap_writer.Writer(stream)
        writer.start()
        channel = writer.register_channel("/x", "flatbuffer", writer.register_schema("x", "flatbuffer", b""))
        writer.add_message(channel, START, b"\0", START)
        writer.finish()
    with pytest.raises(DataError, match="/x: a message of encoding 'flatbuffer' does not decode: cdr, ros1, json and"):
        values(tmp_path, "x.mcap", "x")


@pytest.mark.parametrize("claim", ["honest", "lying"])
def test_an_mcap_chunk_that_is_a_bomb_is_refused(tmp_path, claim):
    import zstandard
    from mcap.data_stream import RecordBuilder
    from mcap.records import Chunk

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 29))
    builder = RecordBuilder()
    size = 1 << 29 if claim == "honest" else 1000
    Chunk("zstd", bomb, START + 100, START, 0, size).write(builder)
    write_json(tmp_path / "x.mcap", [START], use_chunking=False, enable_data_crcs=False)
    content = (tmp_path / "x.mcap").read_bytes()
    header_ends = 8 + 9 + struct.unpack_from("<Q", content, 9)[0]
    (tmp_path / "x.mcap").write_bytes(content[:header_ends] + builder.end() + content[header_ends:])
    with pytest.raises(
        DataError, match=r"decompresses to more than the (268435456|1000) bytes|is damaged or cut short"
    ):
        values(tmp_path, "x.mcap", "x")


def test_a_ros_1_chunk_that_is_a_bomb_is_refused(tmp_path, monkeypatch):
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    from oxe_pipeline.ingest import bag_files

    store = get_typestore(Stores.ROS1_NOETIC)
    text = store.types["std_msgs/msg/String"](data="x" * 300_000)
    writer = Writer(tmp_path / "x.bag")
    writer.set_compression(writer.CompressionFormat.BZ2)
    with writer:
        connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        writer.write(connection, START, store.serialize_ros1(text, "std_msgs/msg/String"))
    with opened_bag(tmp_path, "x.bag") as bag:
        [(_, _, message)] = bag.messages(["/text"])
    assert len(message.data) == 300_000
    monkeypatch.setattr(bag_files, "MAX_CHUNK_BYTES", 100_000)
    with (
        opened_bag(tmp_path, "x.bag") as bag,
        pytest.raises(DataError, match="decompresses to more than the 100000 bytes that fit there"),
    ):
        list(bag.messages(["/text"]))


def test_databases_of_old_distributions_without_definitions_use_the_known_ones(tmp_path):
    import sqlite3

    layout.write_bag(tmp_path / "x", "sqlite3")
    [database] = (tmp_path / "x").glob("*.db3")
    connection = sqlite3.connect(database)
    connection.execute("DELETE FROM message_definitions")
    connection.commit()
    connection.close()
    with opened_bag(tmp_path, "x") as bag:
        message = next(bag.messages(["/eef_pose"]))[2]
    np.testing.assert_allclose(numbers_in(message, ["pose.position.x"]), [0.3])


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n WHERE x < 0"


@pytest.mark.parametrize(
    "statement",
    [
        f"CREATE VIEW endless AS {ENDLESS}",
        "ALTER TABLE topics ADD COLUMN bomb BLOB GENERATED ALWAYS AS (zeroblob(1000000000)) VIRTUAL",
        "CREATE TRIGGER t AFTER DELETE ON topics BEGIN SELECT 1; END",
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_databases_that_compute_what_they_hold_are_refused(tmp_path, statement, alone):
    import sqlite3

    layout.write_bag(tmp_path / "x", "sqlite3", seconds=0.1)
    [database] = (tmp_path / "x").glob("*.db3")
    connection = sqlite3.connect(database)
    connection.execute(statement)
    connection.commit()
    connection.close()
    path = f"x/{database.name}" if alone else "x"
    with pytest.raises(DataError, match="is computed by a query, must be a plain table"), opened_bag(tmp_path, path):
        pass


def test_bags_are_found_once_whatever_their_container(tmp_path):
    layout.write_bag(tmp_path / "b" / "split", "mcap", seconds=0.1)
    layout.write_bag(tmp_path / "a2.bag", "ros1", seconds=0.1)
    (tmp_path / "a10.bag").write_bytes(b"")
    (tmp_path / "b" / "alone.mcap").write_bytes(b"")
    (tmp_path / "b" / "notes.yaml").write_text("x: 1")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(find_bags(tmp_path)) == ["a2.bag", "a10.bag", "b/alone.mcap", "b/split"]


def test_a_topic_whose_name_is_no_text_is_not_taken_for_one(tmp_path):
    layout.write_bag(tmp_path / "x", "sqlite3", seconds=0.2)
    metadata = tmp_path / "x" / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("name: /task\n", "name: [/task, 1]\n"))
    with opened_bag(tmp_path, "x") as bag:
        assert "/task" not in bag.topics and "/eef_pose" in bag.topics


@pytest.mark.parametrize("content", ["", "x: 1", "[1, 2]", "rosbag2_bagfile_information: {}", "a: &a [*a]", "{"])
def test_a_metadata_file_that_says_something_else_is_a_data_error(tmp_path, content):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "metadata.yaml").write_text(content)
    with pytest.raises(DataError, match=r"x: metadata\.yaml: is no description of a bag"), opened_bag(tmp_path, "x"):
        pass
