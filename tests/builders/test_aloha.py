"""builders/aloha on files in the recorder's layout: good ones come out, cut ones are counted, mirrored ones skipped."""

import json
from pathlib import Path

import pytest

from samples.aloha_layout import write_episode

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("h5py")

from builders.aloha.aloha_dataset_builder import CONFIGS, Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw: Path, data_dir: Path, spec: str):
    builder = Builder(config=UnifiedConfig(name="tested", spec=load_spec(spec), processes=1), data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_a_folder_of_tasks_with_a_cut_file_and_a_mirrored_one(tmp_path):
    task = tmp_path / "raw" / "wipe_the_table"
    for number in (0, 2, 10):
        write_episode(task / f"episode_{number}.hdf5", seed=number, steps=5, compressed=True, mobile=True)
    write_episode(task / "mirror_episode_0.hdf5", steps=5, compressed=True, mobile=True)
    content = (task / "episode_2.hdf5").read_bytes()
    (task / "episode_2.hdf5").write_bytes(content[: len(content) // 2])
    builder = build(tmp_path / "raw", tmp_path / "out", "mobile_aloha")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (3, 2)
    assert facts["skipped_files"] == ["wipe_the_table/mirror_episode_0.hdf5"]
    [fault] = facts["quarantined"]
    assert fault["episode"] == "wipe_the_table/episode_2.hdf5" and "not a whole HDF5 file" in fault["reason"]
    for example in tfds.builder_from_directory(builder.data_path).as_dataset(split="train"):
        steps = list(example["steps"].as_numpy_iterator())
        assert len(steps) == 4 and steps[0]["language_instruction"] == b"wipe the table"
        assert steps[0]["observation"]["image_primary"].shape == (48, 64, 3)
        assert example["episode_metadata"]["has_image_wrist_left"].numpy()


def test_every_config_has_a_spec_of_raw_data():
    assert all(load_spec(name).source_kind == "raw" for name in CONFIGS)


def test_a_folder_without_episodes_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "episode_x.hdf5").touch()
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no episode_<N>\.hdf5; give the folder of the tasks$"):
        build(tmp_path / "raw", tmp_path / "out", "aloha")
