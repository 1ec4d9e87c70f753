"""builders/rosbag on three containers of one recording and a bag cut short."""

import json
from pathlib import Path

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("rosbags")

from builders.rosbag.rosbag_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from samples import rosbag_layout as layout  # noqa: E402
from schemas.spec import load_spec, spec_names  # noqa: E402


def build(raw: Path, data_dir: Path):
    in_this_process = UnifiedConfig(name="tested", spec=load_spec("rosbag_arm"), processes=1)
    builder = Builder(config=in_this_process, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_bags_of_all_containers_give_the_same_steps_and_a_cut_one_is_counted(tmp_path):
    raw = tmp_path / "raw"
    layout.write_bag(raw / "day1" / "a.bag", "ros1")
    layout.write_bag(raw / "day1" / "b", "sqlite3")
    layout.write_bag(raw / "day2" / "c", "mcap")
    (raw / "day2" / "d.bag").write_bytes((raw / "day1" / "a.bag").read_bytes()[:5000])
    builder = build(raw, tmp_path / "out")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (4, 3)
    [entry] = facts["quarantined"]
    assert entry["episode"] == "day2/d.bag" and "does not open" in entry["reason"]
    seen = {}
    for example in builder.as_dataset(split="train"):
        steps = list(example["steps"].as_numpy_iterator())
        seen[example["episode_metadata"]["source_path"].numpy().decode()] = np.stack([step["action"] for step in steps])
        assert steps[0]["language_instruction"] == b"put the cup on the plate"
        assert steps[0]["observation"]["image_wrist"].shape == (layout.IMAGE_PX, layout.IMAGE_PX, 3)
    assert sorted(seen) == ["day1/a.bag", "day1/b", "day2/c"]
    for actions in seen.values():
        np.testing.assert_array_equal(actions, seen["day1/a.bag"])


def test_every_spec_with_a_bag_layout_is_a_config():
    names = {config.name for config in Builder.BUILDER_CONFIGS}
    assert names == {name for name in spec_names() if load_spec(name).bag} >= {"rosbag_arm", "pose_demonstrations"}


def test_a_folder_without_a_bag_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").touch()
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no \.bag, \.db3 or \.mcap file and no ROS 2"):
        build(tmp_path / "raw", tmp_path / "out")
