"""builders/umi on a small dataset.zarr.zip in the real layout."""

from pathlib import Path

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")

from builders.umi.umi_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from samples import zarr_replay_layout as layout  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw: Path, data_dir: Path):
    in_this_process = UnifiedConfig(name="tested", spec=load_spec("umi"), processes=1)
    builder = Builder(config=in_this_process, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_each_episode_loses_its_last_step_and_gains_the_action_that_was_not_recorded(tmp_path):
    layout.write_umi(tmp_path / "raw" / "dataset.zarr.zip", lengths=(4, 6))
    examples = build(tmp_path / "raw", tmp_path / "out").as_dataset(split="train")
    lengths = []
    for example in examples:
        steps = list(example["steps"].as_numpy_iterator())
        lengths.append(len(steps))
        places = np.stack([step["observation"]["state"][:3] for step in steps])
        moved = np.stack([step["action"][:3] for step in steps])
        np.testing.assert_allclose(moved[:-1], np.diff(places, axis=0), atol=1e-6)
        assert steps[0]["observation"]["image_wrist"].shape == (224, 224, 3)
    assert sorted(lengths) == [3, 5]


def test_a_folder_without_a_store_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").touch()
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no \.zarr\.zip file and no \.zarr folder; .*$"):
        build(tmp_path / "raw", tmp_path / "out")
