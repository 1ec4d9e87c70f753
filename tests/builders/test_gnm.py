"""builders/gnm on folders in GNM's layout, and on RECON's files through its other config."""

import json

import numpy as np
import pytest

from samples.gnm_layout import main as write_sample
from samples.gnm_layout import make_drive, write_folder, write_recon

tfds = pytest.importorskip("tensorflow_datasets")

from builders.gnm.gnm_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from oxe_pipeline.ingest.apply_spec import apply_spec  # noqa: E402
from schemas.spec import DATASETS_FOLDER, load_spec  # noqa: E402


def build(name: str, folder):
    """Built in this process, which is faster; that `tfds build` finds a builder is shown by others' tests."""
    config = UnifiedConfig(name="tested", spec=load_spec(name), processes=1)
    builder = Builder(config=config, data_dir=folder / "out")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder / "raw"))
    return builder.data_path


def test_recordings_are_built_and_one_without_an_image_is_set_aside(tmp_path):
    for number in range(3):
        write_folder(tmp_path / "raw" / "recon" / f"run_{number}", make_drive(5, seed=number))
    write_folder(tmp_path / "raw" / "recon" / "short", make_drive(5), images=3)
    folder = build("gnm", tmp_path)
    facts = json.loads((folder / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (4, 3)
    assert facts["quarantined"][0]["reason"] == "3 images for 5 poses: 3.jpg is missing"
    episodes = tfds.builder_from_directory(folder).as_dataset(split="train")
    lengths = [len(list(episode["steps"])) for episode in episodes]
    assert lengths == [4, 4, 4]
    for episode in episodes.take(1):
        assert np.flatnonzero(episode["episode_metadata"]["action_mask"]).tolist() == [28, 29, 30]


def test_recon_files_are_built_through_their_own_config(tmp_path):
    (tmp_path / "raw").mkdir()
    write_recon(tmp_path / "raw" / "jackal_1.hdf5", make_drive(4))
    (episode,) = tfds.builder_from_directory(build("recon", tmp_path)).as_dataset(split="train")
    assert episode["episode_metadata"]["has_image_secondary"].numpy() and len(list(episode["steps"])) == 3


@pytest.mark.parametrize(("config", "wanted"), [("gnm", r"traj_data\.pkl"), ("recon", r"\.hdf5 file")])
def test_a_folder_of_something_else_stops_the_build_in_one_line(tmp_path, config, wanted):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").touch()
    builder = Builder(config=config, data_dir=tmp_path / "out")
    with pytest.raises(BuildStopped, match=rf"^error: .*raw: holds no {wanted}; give the folder of the recordings$"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw"))


@pytest.mark.parametrize("layout", ["gnm", "recon"])
def test_a_spec_of_ones_own_is_read_as_the_layout_whose_keys_it_names(tmp_path, layout):
    assert write_sample(["--out", str(tmp_path / "raw"), "--layout", layout, "--episodes", "2"]) == 0
    own = tmp_path / "mylab.yaml"
    own.write_text((DATASETS_FOLDER / f"{layout}.yaml").read_text().replace(f"name: {layout}", "name: mylab", 1))
    builder = Builder(config=str(own), data_dir=tmp_path / "out")
    keys = builder.list_episodes(str(tmp_path / "raw"))["train"]
    assert keys == (["drawn/jackal_0", "drawn/jackal_1"] if layout == "gnm" else ["jackal_0.hdf5", "jackal_1.hdf5"])
    assert len(apply_spec(builder.read_episode()(keys[1]), builder.spec)) == 20
