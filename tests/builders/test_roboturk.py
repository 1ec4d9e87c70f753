"""builders/roboturk on a sample in the real layout."""

import json

import pytest

from samples.roboturk_layout import write_demo

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("h5py")
pytest.importorskip("av")

from builders.roboturk.roboturk_dataset_builder import Builder  # noqa: E402
from builders.unified import UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def test_demos_are_built_and_one_without_videos_is_set_aside(tmp_path):
    (tmp_path / "raw").mkdir()
    file = tmp_path / "raw" / "SawyerLaundryLayout_aligned_dataset.hdf5"
    for number in range(2):
        write_demo(file, "user_1", f"demo_{number}", steps=4, seed=number)
    write_demo(file, "user_1", "demo_2", steps=4, video_images={"front_rgb": 0, "top_rgb": 0})
    config = UnifiedConfig(name="tested", spec=load_spec("roboturk_real"), processes=1)
    builder = Builder(config=config, data_dir=tmp_path / "out")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw"))
    folder = builder.data_path
    facts = json.loads((folder / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (3, 2)
    assert facts["quarantined"][0]["episode"].endswith("demo_2") and "none of the videos" in str(facts["quarantined"])
    for episode in tfds.builder_from_directory(folder).as_dataset(split="train"):
        steps = list(episode["steps"].as_numpy_iterator())
        assert len(steps) == 3 and steps[0]["language_instruction"] == b"laundry layout"
