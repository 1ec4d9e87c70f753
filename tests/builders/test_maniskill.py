"""builders/maniskill on files in the simulator's layout: episodes of its controller come out, others are named."""

import json
from pathlib import Path

import pytest

from samples.maniskill_layout import write_file

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("h5py")

from builders.maniskill.maniskill_dataset_builder import CONFIGS, Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw: Path, data_dir: Path):
    spec = load_spec("maniskill3_ee_delta")
    builder = Builder(config=UnifiedConfig(name="tested", spec=spec, processes=1), data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_good_files_come_out_and_one_of_another_controller_is_set_aside(tmp_path):
    raw = tmp_path / "raw"
    write_file(raw / "PickCube-v1" / "a.h5", ids=[0, 3], steps=4)
    write_file(raw / "PushCube-v1" / "b.h5", ids=[1], steps=4, mode="pd_joint_pos")
    builder = build(raw, tmp_path / "out")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (3, 2)
    [fault] = facts["quarantined"]
    assert fault["episode"] == "PushCube-v1/b.h5/traj_1" and "did you mean actions/pd_joint_pos" in fault["reason"]
    found = {
        example["episode_metadata"]["source_path"].numpy().decode(): int(example["episode_metadata"]["success"])
        for example in tfds.builder_from_directory(builder.data_path).as_dataset(split="train")
    }
    assert found == {"PickCube-v1/a.h5/traj_0": 1, "PickCube-v1/a.h5/traj_3": 0}


def test_every_config_has_a_spec_of_raw_data():
    assert all(load_spec(name).source_kind == "raw" for name in CONFIGS)


def test_a_folder_without_files_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BuildStopped, match=r"^error: .*: holds no \.h5 file; give the folder of the demonstrations$"):
        build(tmp_path, tmp_path / "out")
