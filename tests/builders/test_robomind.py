"""builders/robomind on files in the published layout: one robot's episodes come out with the labels of the table."""

import json
from pathlib import Path

import pytest

from samples.robomind_layout import write_episode, write_labels

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("h5py")

from builders.robomind.robomind_dataset_builder import EMBODIMENTS, VARIANTS, Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw: Path, data_dir: Path, name: str):
    builder = Builder(config=UnifiedConfig(name="tested", spec=load_spec(name), processes=1), data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_the_robot_of_the_config_comes_out_and_the_others_do_not(tmp_path):
    raw = tmp_path / "raw"
    for split, stamp in (("train", "1"), ("val", "2")):
        write_episode(raw, "h5_ur_1rgb", "10_packplate", split=split, stamp=stamp, steps=4)
    write_episode(raw, "h5_agilex_3rgb", "10_packplate")
    write_labels(raw, "h5_ur_1rgb", {"10_packplate": ["Pick up the plate"]}, {"x": "y"})
    builder = build(raw, tmp_path / "out", "robomind_ur_as_motion")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (2, 2)
    assert facts["label_files"] == ["RoboMIND_v1_2_instr.csv", "language_description_annotation_json/h5_ur_1rgb.json"]
    for example in tfds.builder_from_directory(builder.data_path).as_dataset(split="train"):
        steps = list(example["steps"].as_numpy_iterator())
        assert len(steps) == 3 and steps[0]["language_instruction"] == b"pick up the plate"


def test_every_config_has_a_spec_of_raw_data():
    assert all(load_spec(name).source_kind == "raw" for name in (*EMBODIMENTS, *VARIANTS))


def test_a_folder_of_another_robot_stops_the_build_in_one_line(tmp_path):
    write_episode(tmp_path / "raw", "h5_ur_1rgb", "10_packplate")
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no trajectory\.hdf5 below h5_agilex_3rgb; give the"):
        build(tmp_path / "raw", tmp_path / "out", "robomind_agilex")
