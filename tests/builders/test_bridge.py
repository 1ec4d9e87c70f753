"""builders/bridge on the sample episodes and on the real one: bytes on disk come out, bad episodes are counted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, tfds_build

tfds = pytest.importorskip("tensorflow_datasets")

from builders.bridge.bridge_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402

SAMPLES = ROOT / "samples" / "metaworld_bridge"
EPISODES = "metaworld/tabletop/{task}/00/2026-11-23_10-00-00/raw/traj_group0/traj{number}"


def build(raw: Path, data_dir: Path, config: str = "metaworld_bridge"):
    in_this_process = UnifiedConfig(name="tested", spec=load_spec(config), processes=1)
    builder = Builder(config=in_this_process, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def read_back(folder: Path) -> dict[str, dict]:
    """source_path -> episode, by plain TFDS, images as stored bytes."""
    builder = tfds.builder_from_directory(folder)
    stored = {f"image_{camera}": tfds.decode.SkipDecoding() for camera in ("primary", "secondary")}
    examples = builder.as_dataset(split="train", decoders={"steps": {"observation": stored}})
    episodes = {}
    for example in examples:
        metadata = {key: value.numpy() for key, value in example["episode_metadata"].items() if hasattr(value, "numpy")}
        steps = list(example["steps"].as_numpy_iterator())
        episodes[metadata["source_path"].decode()] = {"metadata": metadata, "steps": steps}
    return episodes


def metadata_of(builder) -> dict:
    return json.loads((Path(builder.data_path) / "metadata.json").read_text())


@pytest.fixture
def raw(tmp_path) -> Path:
    """Three sample episodes: one complete, one without its second camera, one without a label."""
    for task, number in (("push_puck", 0), ("open_drawer", 5), ("slide_plate", 3)):
        path = EPISODES.format(task=task, number=number)
        shutil.copytree(SAMPLES / path, tmp_path / "raw" / path)
    return tmp_path / "raw"


def test_every_sample_episode_comes_out_with_the_jpeg_bytes_that_lie_on_disk(demo_rlds):
    episodes = read_back(demo_rlds["metaworld_bridge"])
    assert set(episodes) == {path.parent.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("obs_dict.pkl")}
    for path, episode in episodes.items():
        # The first step (nothing commanded) and the last two observations (no action, no next state) are dropped.
        images = len(list((SAMPLES / path / "images0").iterdir()))
        assert len(episode["steps"]) == images - 3
        for number, camera in enumerate(("primary", "secondary")):
            if not episode["metadata"][f"has_image_{camera}"]:
                continue
            for t, step in enumerate(episode["steps"]):
                on_disk = (SAMPLES / path / f"images{number}" / f"im_{t + 1}.jpg").read_bytes()
                assert step["observation"][f"image_{camera}"] == on_disk, (path, camera, t)


def test_the_dirt_of_the_sample_episodes_is_masked_and_flagged(tmp_path, raw):
    episodes = read_back(build(raw, tmp_path / "out").data_path)
    complete, one_camera, silent = (
        episodes[EPISODES.format(task=task, number=number)]
        for task, number in (("push_puck", 0), ("open_drawer", 5), ("slide_plate", 3))
    )
    assert complete["metadata"]["has_image_primary"] and complete["metadata"]["has_image_secondary"]
    assert complete["steps"][0]["language_instruction"] == b"push the puck to the green ball"
    assert b"confidence" in complete["metadata"]["label_raw"]
    assert not one_camera["metadata"]["has_image_secondary"]
    assert silent["steps"][0]["language_instruction"] == b""


def test_the_action_is_the_motion_to_the_next_state_and_rotation_is_masked(tmp_path, raw):
    for episode in read_back(build(raw, tmp_path / "out").data_path).values():
        mask = episode["metadata"]["action_mask"]
        assert np.flatnonzero(mask).tolist() == [0, 1, 2, 6]
        position = np.array([step["observation"]["state"][:3] for step in episode["steps"]])
        action = np.array([step["action"] for step in episode["steps"]])
        assert np.allclose(action[:-1, :3], np.diff(position, axis=0), atol=1e-6)
        assert set(action[:, 6]) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda folder: (folder / "policy_out.pkl").unlink(), "policy_out.pkl"),
        (lambda folder: (folder / "images0" / "im_2.jpg").unlink(), "images0"),
        (lambda folder: (folder / "images0" / "im_2.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut"), "images[primary]"),
        (lambda folder: (folder / "obs_dict.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR."), "obs_dict.pkl"),
    ],
)
def test_one_bad_episode_is_set_aside_with_its_reason_and_the_others_are_built(tmp_path, raw, spoil, field):
    bad = EPISODES.format(task="push_puck", number=0)
    spoil(raw / bad)
    builder = build(raw, tmp_path / "out")
    facts = metadata_of(builder)
    assert (facts["episodes_in"], facts["episodes_out"]) == (3, 2)
    assert [(entry["episode"], entry["field"]) for entry in facts["quarantined"]] == [(bad, field)]
    assert bad not in read_back(builder.data_path)


def test_a_folder_without_episodes_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw" / "kitchen").mkdir(parents=True)
    with pytest.raises(
        BuildStopped, match=r"^error: .*raw: holds no traj<N> folder; give the raw folder as --manual_dir$"
    ):
        build(tmp_path / "raw", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*1.0.0"))


def test_the_command_as_typed_takes_another_file_format_and_a_limit(tmp_path, raw):
    limit = ("--file_format", "array_record", "--max_examples_per_split", "2")
    tfds_build("bridge", "metaworld_bridge", raw, tmp_path / "out", *limit)
    folder = tmp_path / "out" / "bridge" / "metaworld_bridge" / "1.0.0"
    assert [path.name for path in folder.glob("*array_record*")] == ["bridge-train.array_record-00000-of-00001"]
    builder = tfds.builder_from_directory(folder)
    assert builder.info.splits["train"].num_examples == 2
    assert len(builder.as_data_source(split="train")[1]["steps"]) > 5


def test_the_real_episode_is_built_by_the_default_config(tmp_path, real_data):
    assert Builder(data_dir=tmp_path / "out").builder_config.name == "bridge_dataset"
    builder = build(real_data / "bridge_raw", tmp_path / "out", config="bridge_dataset")
    [(path, episode)] = read_back(builder.data_path).items()
    assert path == "traj3" and len(episode["steps"]) == 105
    assert episode["steps"][0]["language_instruction"] == b"open the drawer and put the purple thing in it"
    frame = (real_data / "bridge_raw" / "traj3" / "images0" / "im_1.jpg").read_bytes()
    assert episode["steps"][0]["observation"]["image_primary"] == frame
    action = np.array([step["action"] for step in episode["steps"]])
    assert 0.001 < np.abs(action[:, :3]).max() < 0.1  # metres in a fifth of a second
    assert set(action[:, 6]) == {0.0, 1.0}
