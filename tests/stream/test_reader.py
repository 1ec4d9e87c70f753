import pickle

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.stream.format import VECTORS, StreamError
from oxe_pipeline.stream.reader import open_stream
from oxe_pipeline.stream.verify import verify_stream
from oxe_pipeline.stream.writer import ColumnLayout, ShardWriter
from tests.synthetic import make_episode, write_stream


@pytest.fixture
def episodes():
    """Lengths 1 to 6, the third without a wrist camera, the last held out."""
    made = [make_episode(seed, steps=seed + 1) for seed in range(6)]
    del made[2].images["wrist"]
    made[5].split = "val"
    return made


def test_every_vector_and_image_reads_back_bit_for_bit(tmp_path, episodes):
    stream = open_stream(write_stream(tmp_path, episodes))
    for number, episode in enumerate(episodes):
        assert np.array_equal(stream.vector("action", number), episode.action[:, episode.action_mask])
        assert np.array_equal(stream.vector("state", number), episode.state[:, episode.state_mask])
        assert np.array_equal(stream.vector("action_raw", number), episode.action_raw)
        assert np.array_equal(stream.vector("state_raw", number), episode.state_raw)
        for step in range(len(episode)):
            for camera in ("primary", "wrist"):
                expected = episode.images[camera][step] if camera in episode.images else b""
                assert bytes(stream.image(number, step, camera)) == expected
        assert bytes(stream.image(number, 0, "secondary")) == b""


def test_episode_index_holds_what_was_written(tmp_path, episodes):
    stream = open_stream(write_stream(tmp_path, episodes))
    assert stream.num_steps == sum(map(len, episodes))
    assert stream.episodes.length.tolist() == [1, 2, 3, 4, 5, 6]
    assert stream.episodes.split_is("train").tolist() == [True] * 5 + [False]
    assert not stream.episodes.split_is("test").any()
    assert stream.episodes.has_camera("wrist").tolist() == [True, True, False, True, True, True]
    assert [stream.episodes.episode_id(i) for i in range(6)] == [episode.episode_id for episode in episodes]
    assert stream.instruction(3) == "push block 3" and stream.instruction(3, 1) == "shove block 3"
    assert len(stream.episodes.instruction_ids(2)) == 1


def test_statistics_are_those_of_the_train_split_alone(tmp_path, episodes):
    stream = open_stream(write_stream(tmp_path, episodes))
    train = np.concatenate([episode.state[:, :10] for episode in episodes if episode.split == "train"])
    summary = stream.statistics("state").summary()
    assert np.allclose([slot["mean"] for slot in summary.values()], train.mean(0), atol=1e-6)
    assert summary == stream.manifest.statistics["state"]


def test_camera_bytes_are_where_the_manifest_says(tmp_path, episodes):
    folder = write_stream(tmp_path, episodes, episodes_per_shard=3)
    entry = open_stream(folder).manifest.shards[1]
    content = (folder / entry.images_name).read_bytes()
    place = entry.cameras["wrist"]
    expected = b"".join(image for episode in episodes[3:] for image in episode.images["wrist"])
    assert content[place.offset : place.offset + place.bytes] == expected


def test_a_data_set_without_state_and_raw_vectors_is_a_stream_too(tmp_path):
    episode = make_episode(0)
    episode.state[:], episode.state_mask[:] = 0, False
    episode.state_raw = episode.action_raw = np.empty((len(episode), 0), np.float32)
    stream = open_stream(write_stream(tmp_path, [episode]))
    assert [stream.vector(name, 0).shape for name in VECTORS] == [(12, 7), (12, 0), (12, 0), (12, 0)]
    assert stream.statistics("state").summary() == {} and not verify_stream(tmp_path).faults


def test_stream_travels_to_another_process_as_its_path(tmp_path, episodes):
    stream = open_stream(write_stream(tmp_path, episodes))
    assert len(pickle.dumps(stream)) < 1000
    assert pickle.loads(pickle.dumps(stream)).identity == stream.identity


def test_absent_or_cut_file_is_refused_at_open(tmp_path, episodes):
    folder = write_stream(tmp_path, episodes)
    path = folder / open_stream(folder).manifest.shards[0].images_name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(StreamError, match=f"{len(whole) - 1} bytes, the manifest says {len(whole)}"):
        open_stream(folder)
    path.unlink()
    with pytest.raises(StreamError, match="absent"):
        open_stream(folder)


def test_shard_that_is_not_arrow_names_the_file_and_the_remedy(tmp_path, episodes):
    folder = write_stream(tmp_path, episodes)
    path = folder / open_stream(folder).manifest.shards[0].steps_name
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(StreamError, match=r"oxe_pipeline\.verify"):
        open_stream(folder).vector("action", 0)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("episodes.parquet", lambda stream: stream),
        ("instructions.parquet", lambda stream: stream.instructions),
        ("statistics/action.bin", lambda stream: stream.statistics("action")),
    ],
)
def test_a_damaged_table_is_an_error_that_names_its_file(tmp_path, episodes, name, read):
    folder = write_stream(tmp_path, episodes)
    path = folder / name
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(StreamError, match=rf"{name}: cannot be read .*oxe_pipeline\.verify"):
        read(open_stream(folder))


def test_damage_in_a_column_that_is_read_later_names_the_file_too(tmp_path, episodes):
    folder = write_stream(tmp_path, episodes)
    path = folder / "episodes.parquet"
    content = path.read_bytes()
    stream = open_stream(folder)
    # In place, as a disk does it: the index has the file mapped.
    footer = int.from_bytes(content[-8:-4], "little") + 8
    with open(path, "r+b") as file:
        file.write(b"x" * (len(content) - footer))
    with pytest.raises(StreamError, match=r"episodes\.parquet: cannot be read"):
        stream.episodes.column("source_path")


def test_episode_of_another_layout_is_refused(tmp_path, episodes):
    writer = ShardWriter(folder=tmp_path, name="00000-000", layout=ColumnLayout.of(episodes[0]))
    episodes[1].action_mask[13] = True
    with pytest.raises(DataError, match="differ from the stream's"):
        writer.add(episodes[1])


def test_stream_adds_less_than_two_percent_to_images_of_training_size(tmp_path):
    made = [make_episode(seed, steps=20, image_px=512) for seed in range(4)]
    folder = write_stream(tmp_path, made)
    images = sum(len(image) for episode in made for column in episode.images.values() for image in column)
    total = sum(path.stat().st_size for path in folder.rglob("*.arrow"))
    assert total / images < 1.02
