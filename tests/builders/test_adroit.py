"""builders/adroit: a hand without cameras comes out as a data set like any other."""

import json
from pathlib import Path

import numpy as np
import pytest

from samples.adroit_layout import make_demo, write_file

tfds = pytest.importorskip("tensorflow_datasets")

from builders.adroit.adroit_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def test_the_sample_is_built_and_a_broken_episode_set_aside(tmp_path):
    demos = [make_demo(6, seed=seed) for seed in range(3)]
    demos[1]["actions"] = demos[1]["actions"][:-1]
    write_file(tmp_path / "raw", demos)
    in_this_process = UnifiedConfig(name="tested", spec=load_spec("adroit_door"), processes=1)
    builder = Builder(config=in_this_process, data_dir=tmp_path / "out")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw"))
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (3, 2)
    assert facts["quarantined"][0]["episode"] == "door-v0_demos.pickle/1"
    episodes = {}
    for example in builder.as_dataset(split="train"):
        metadata = example["episode_metadata"]
        assert not any(metadata[key].numpy() for key in metadata if key.startswith("has_image"))
        episodes[metadata["source_path"].numpy().decode()] = list(example["steps"].as_numpy_iterator())
    assert episodes.keys() == {"door-v0_demos.pickle/0", "door-v0_demos.pickle/2"}
    steps = episodes["door-v0_demos.pickle/2"]
    assert len(steps) == 6 and steps[0]["language_instruction"] == b"undo the latch and open the door"
    assert np.allclose([step["reward"] for step in steps], demos[2]["rewards"])


def test_a_folder_without_the_environments_file_stops_the_build_in_one_line(tmp_path):
    write_file(tmp_path / "raw", [make_demo(3)], environment="hammer-v0")
    builder = Builder(config="adroit_door", data_dir=tmp_path / "out")
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no door-v0_demos\.pickle \(.*published_name"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw"))
