"""builders/agibot on files in the published layout, an episode a sub-task."""

import json
from pathlib import Path

import pytest

from samples.agibot_layout import write_episode

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("h5py")
pytest.importorskip("av")

from builders.agibot.agibot_dataset_builder import CONFIGS, Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw: Path, data_dir: Path, spec: str):
    builder = Builder(config=UnifiedConfig(name="tested", spec=load_spec(spec), processes=1), data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_sub_tasks_come_out_and_listed_episodes_without_data_are_counted(tmp_path):
    write_episode(tmp_path / "raw", steps=6)
    listed = tmp_path / "raw" / "task_info" / "task_327.json"
    [entry] = json.loads(listed.read_text())
    listed.write_text(json.dumps([entry, entry | {"episode_id": 1}]))
    builder = build(tmp_path / "raw", tmp_path / "out", "agibot_world_skills")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_out"], facts["listed_without_data"]) == (2, 1)
    sentences = set()
    for example in tfds.builder_from_directory(builder.data_path).as_dataset(split="train"):
        steps = list(example["steps"].as_numpy_iterator())
        sentences.add(steps[0]["language_instruction"])
        assert len(steps) == 3 and steps[0]["observation"]["image_wrist_left"].shape == (48, 64, 3)
    assert sentences == {b"pick up the bag with the left arm", b"put the bag into the box"}


def test_every_config_has_a_spec_of_raw_data():
    assert all(load_spec(name).source_kind == "raw" for name in CONFIGS)


def test_a_folder_without_recordings_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw" / "proprio_stats").mkdir(parents=True)
    with pytest.raises(
        BuildStopped, match=r"^error: .*raw: holds no proprio_stats/<task>/<episode>/proprio_stats\.h5;"
    ):
        build(tmp_path / "raw", tmp_path / "out", "agibot_world")
