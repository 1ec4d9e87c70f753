"""builders/robomimic on a file with masks: both demos come out, each on its side of the split."""

import pytest

from samples.robomimic_layout import write_file

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("h5py")

from builders.robomimic.robomimic_dataset_builder import CONFIGS, Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw, data_dir):
    builder = Builder(config=UnifiedConfig(name="tested", spec=load_spec("robomimic"), processes=1), data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_both_demos_come_out_on_their_sides_of_the_split(tmp_path):
    write_file(tmp_path / "raw" / "can" / "image.hdf5", steps=4)
    builder = build(tmp_path / "raw", tmp_path / "out")
    found = {}
    for example in tfds.builder_from_directory(builder.data_path).as_dataset(split="train"):
        metadata = example["episode_metadata"]
        found[metadata["source_path"].numpy().decode()] = (metadata["split"].numpy(), len(list(example["steps"])))
    assert found == {"can/image.hdf5/demo_0": (b"train", 4), "can/image.hdf5/demo_1": (b"val", 4)}


def test_every_config_has_a_spec_of_raw_data():
    assert all(load_spec(name).source_kind == "raw" for name in CONFIGS)


def test_a_folder_without_files_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BuildStopped, match=r"^error: .*: holds no \.hdf5 file; give the raw folder as --manual_dir$"):
        build(tmp_path, tmp_path / "out")
