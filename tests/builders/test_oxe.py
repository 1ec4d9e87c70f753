"""The importer of published RLDS: on data with exactly the published structure, written here by TFDS's own writer, and
on real BridgeData where it is present."""

import json
import shutil
import struct

import numpy as np
import pytest
import simplejpeg

tfds = pytest.importorskip("tensorflow_datasets")

from builders.oxe import oxe_dataset_builder as oxe  # noqa: E402
from builders.oxe.records import read_record  # noqa: E402
from builders.unified import BuildStopped  # noqa: E402
from oxe_pipeline.episode import DataError  # noqa: E402
from oxe_pipeline.ingest.rlds import RldsDirectory  # noqa: E402
from schemas.slots import ACTION_GROUPS  # noqa: E402
from tests.conftest import tfds_build  # noqa: E402
from tests.ingest.published_cases import ALL_CASES  # noqa: E402
from tests.ingest.published_structure import write_directory  # noqa: E402


def ur5_features():
    """The feature structure of berkeley_autolab_ur5 0.1.0 (its depth image made small)."""
    f = tfds.features
    step = {
        "action": f.FeaturesDict(
            {
                "gripper_closedness_action": f.Tensor(shape=(), dtype=np.float32),
                "rotation_delta": f.Tensor(shape=(3,), dtype=np.float32),
                "terminate_episode": f.Tensor(shape=(), dtype=np.float32),
                "world_vector": f.Tensor(shape=(3,), dtype=np.float32),
            }
        ),
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
        "observation": f.FeaturesDict(
            {
                "hand_image": f.Image(shape=(480, 640, 3)),
                "image": f.Image(shape=(480, 640, 3)),
                "image_with_depth": f.Image(shape=(6, 8, 1), dtype=np.float32),
                "natural_language_embedding": f.Tensor(shape=(512,), dtype=np.float32),
                "natural_language_instruction": f.Text(),
                "robot_state": f.Tensor(shape=(15,), dtype=np.float32),
            }
        ),
        "reward": f.Scalar(np.float32),
    }
    return f.FeaturesDict({"steps": f.Dataset(step)})


def ur5_example(seed: int, steps: int = 4) -> dict:
    source = ALL_CASES["berkeley_autolab_ur5"].source(seed)
    rng = np.random.default_rng(seed)
    images = [simplejpeg.encode_jpeg(rng.integers(0, 256, (480, 640, 3), np.uint8), quality=40) for _ in range(steps)]
    rows = []
    for t in range(steps):
        row: dict = {"action": {}, "observation": {"natural_language_embedding": np.zeros(512, np.float32)}}
        for key, column in source.steps.items():
            group, _, name = key.rpartition("/")
            (row[group] if group else row)[name] = column[t]
        row["observation"] |= {"image": images[t], "hand_image": images[t]}
        row["observation"]["image_with_depth"] = np.zeros((6, 8, 1), np.float32)
        rows.append(row)
    return {"steps": rows}


@pytest.fixture(scope="module")
def ur5_rlds(tmp_path_factory):
    """A published-looking copy: 5 train and 2 test episodes in berkeley_autolab_ur5/0.1.0."""
    root = tmp_path_factory.mktemp("published")
    tfds.dataset_builders.store_as_tfds_dataset(
        name="berkeley_autolab_ur5",
        version="0.1.0",
        features=ur5_features(),
        split_datasets={
            "train": [(str(seed), ur5_example(seed)) for seed in range(5)],
            "test": [(str(seed), ur5_example(seed)) for seed in range(5, 7)],
        },
        data_dir=root,
        disable_shuffling=False,
    )
    return root


def build(manual_dir, data_dir, config="berkeley_autolab_ur5", limit=None):
    builder = oxe.Builder(data_dir=data_dir, config=config)
    builder.builder_config.processes = 1
    options = tfds.download.DownloadConfig(manual_dir=manual_dir, max_examples_per_split=limit)
    builder.download_and_prepare(download_config=options)
    return builder.data_path


def episodes(path, split="train"):
    directory = RldsDirectory(path)
    return [episode for file in directory.splits[split].files for episode in directory.read_unified(file)]


def metadata(path) -> dict:
    return json.loads((path / "metadata.json").read_text())


def test_there_is_a_config_for_every_published_spec_and_none_for_raw_ones():
    names = {config.name for config in oxe.Builder.BUILDER_CONFIGS}
    assert {
        "bridge_dataset",
        "fractal20220817_data",
        "language_table",
        "taco_play",
        "berkeley_autolab_ur5",
        "droid",
    } <= names
    assert names == set(oxe.published_specs())


def test_a_published_directory_becomes_unified_rlds_with_its_own_splits(ur5_rlds, tmp_path):
    path = build(ur5_rlds, tmp_path)
    train, test = episodes(path), episodes(path, "test")
    assert (len(train), len(test)) == (5, 2)
    assert {episode.split for episode in train} == {"train"} and {episode.split for episode in test} == {"test"}
    expected = {ur5_example(seed)["steps"][2]["observation"]["image"]: ur5_example(seed)["steps"] for seed in range(5)}
    for episode in train:
        steps = expected[episode.images["primary"][2]]
        moved = np.stack([row["action"]["world_vector"] for row in steps])
        np.testing.assert_array_equal(episode.action[:, :3], moved)
        np.testing.assert_array_equal(episode.action[:, ACTION_GROUPS["arm0.gripper"].start], [1, 1, 0, 0])
        assert episode.action_raw.shape == (4, 8) and episode.state_raw.shape == (4, 15)
        assert episode.images["primary"] == [row["observation"]["image"] for row in steps]
        assert episode.images["wrist"] != [row["observation"]["hand_image"] for row in steps]
        assert episode.instruction.lower().startswith("pick up the red cup")
    found = metadata(path)
    assert found["split_decided_by"] == "source" and found["episodes_in"] == found["episodes_out"] == 7


def test_plain_tfds_opens_the_result(ur5_rlds, tmp_path):
    builder = tfds.builder_from_directory(build(ur5_rlds, tmp_path, limit=1))
    example = next(iter(builder.as_dataset(split="train")))
    step = next(iter(example["steps"]))
    assert step["observation"]["image_primary"].shape == (480, 640, 3)
    assert example["episode_metadata"]["robot"].numpy().decode().startswith("UR5")
    assert builder.info.splits["train"].num_examples == builder.info.splits["test"].num_examples == 1


def test_absent_shards_are_noted_and_the_rest_goes_on(ur5_rlds, tmp_path, caplog):
    copy = tmp_path / "copy"
    shutil.copytree(ur5_rlds, copy)
    absent = next(copy.rglob("*-test.tfrecord*"))
    absent.unlink()
    path = build(copy, tmp_path / "out")
    found = metadata(path)
    assert found["missing_files"] == {"test": [absent.name]} and found["split_decided_by"] == "hash"
    assert len(episodes(path)) == 5


def test_a_truncated_file_costs_what_cannot_be_read_and_is_set_aside(ur5_rlds, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ur5_rlds, copy)
    file = next(copy.rglob("*-train.tfrecord*"))
    file.write_bytes(file.read_bytes()[:-1000])
    path = build(copy, tmp_path / "out")
    assert len(episodes(path)) == 4
    (record,) = metadata(path)["quarantined"]
    assert record["episode"] == f"{file.name}#4" and "cut short" in record["reason"]


def test_every_episode_that_a_file_no_longer_holds_is_counted_as_set_aside(ur5_rlds, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ur5_rlds, copy)
    file = next(copy.rglob("*-train.tfrecord*"))
    (length,) = struct.unpack("<Q", file.read_bytes()[:8])
    file.write_bytes(file.read_bytes()[: 8 + 4 + length + 4])  # the first record, whole, and nothing after it
    keys = oxe.Records(RldsDirectory(copy / "berkeley_autolab_ur5" / "0.1.0"), ["train"], keep_split=True)
    records = list(keys)
    assert [record.key for record in records] == [f"{file.name}#{number}" for number in range(len(keys))]
    read_record(records[0])
    for record in records[1:]:
        with pytest.raises(DataError, match="the file ends before the episodes"):
            read_record(record)
    with pytest.raises(BuildStopped, match=r"'train': 2 of 5 episodes are bad"):
        build(copy, tmp_path / "out")


def test_a_folder_without_rlds_stops_with_one_line(tmp_path):
    (tmp_path / "raw" / "x").mkdir(parents=True)
    with pytest.raises(BuildStopped) as caught:
        build(tmp_path / "raw", tmp_path / "out")
    assert str(caught.value).startswith("error: ") and "no dataset_info.json" in str(caught.value)


def test_unified_data_are_not_imported_again(ur5_rlds, tmp_path):
    path = build(ur5_rlds, tmp_path / "once", limit=1)
    with pytest.raises(BuildStopped, match="already unified"):
        build(path, tmp_path / "twice")


def test_the_wrong_config_stops_the_build_and_names_a_missing_key(ur5_rlds, tmp_path):
    with pytest.raises(BuildStopped) as caught:
        build(ur5_rlds, tmp_path, config="taco_play")
    assert "no such key in the source" in str(caught.value)


def test_real_bridge_data_is_built_by_the_command_as_typed(real_data, tmp_path):
    done = tfds_build("oxe", "bridge_dataset", real_data / "bridge_rlds", tmp_path, "--max_examples_per_split", "6")
    assert "1 of 1 declared shard files are absent" in done.stdout + done.stderr
    path = tmp_path / "oxe" / "bridge_dataset" / "1.0.0"
    built = episodes(path)
    assert len(built) == 6 and metadata(path)["missing_files"].keys() == {"val"}
    for episode in built:
        motion = episode.action[:, :6]
        assert np.abs(motion[:, :3]).max() < 0.2 and 0.001 < np.abs(motion).max() < 1
        assert set(np.unique(episode.action[:, 6])) <= {0.0, 1.0}
        assert 0 <= episode.state[:, 9].min() <= episode.state[:, 9].max() <= 1
        assert "primary" in episode.images and episode.control_hz == 5


def test_an_empty_folder_gives_the_command_one_line_and_a_status(tmp_path):
    (tmp_path / "raw").mkdir()
    done = tfds_build("oxe", "droid", tmp_path / "raw", tmp_path / "out", check=False)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: oxe: --manual_dir is missing, empty")


def test_a_variant_finds_the_folder_of_its_data_set_among_others(tmp_path):
    for name in ("jaco_play", "taco_play"):
        write_directory(tmp_path / "RLDS", name, ALL_CASES[name].source())
    builder = oxe.Builder(data_dir=tmp_path / "out", config="taco_play_as_octo")
    listing = builder.list_episodes(tmp_path / "RLDS")
    assert [record.key for record in listing["train"]] == ["taco_play-train.tfrecord-00000-of-00001#0"]
    assert builder.spec.name == "taco_play_as_octo"


def test_a_config_that_is_not_there_is_told_with_what_is_published_under_it(tmp_path):
    with pytest.raises(BuildStopped, match=r"no config 'fmb_as_octo'; did you mean fmb_dataset_as_octo\?"):
        oxe.Builder(data_dir=tmp_path, config="fmb_as_octo")
