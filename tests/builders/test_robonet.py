"""builders/robonet on files of both encodings, one of them cut."""

import json
from pathlib import Path

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("h5py")
pytest.importorskip("av")

from builders.robonet.robonet_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from samples.robonet_layout import pictures, write_episode  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw: Path, data_dir: Path):
    in_this_process = UnifiedConfig(name="tested", spec=load_spec("robonet_raw"), processes=1)
    builder = Builder(config=in_this_process, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_videos_inside_hdf5_come_out_and_a_cut_file_is_counted(tmp_path):
    raw = tmp_path / "raw"
    write_episode(raw / "a.hdf5", encoding="mp4", image_format="BGR")
    write_episode(raw / "b.hdf5", encoding="jpg", image_format="RGB", cameras=1)
    (raw / "c.hdf5").write_bytes((raw / "a.hdf5").read_bytes()[:3000])
    builder = build(raw, tmp_path / "out")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (3, 2)
    assert facts["quarantined"][0]["episode"] == "c.hdf5"
    has_second = {}
    for example in builder.as_dataset(split="train"):
        metadata = example["episode_metadata"]
        has_second[metadata["source_path"].numpy().decode()] = bool(metadata["has_image_secondary"])
        for seen, step in zip(pictures(6, 0), example["steps"].as_numpy_iterator(), strict=False):
            assert np.abs(step["observation"]["image_primary"].astype(int) - seen).mean() < 6
    assert has_second == {"a.hdf5": True, "b.hdf5": False}


def test_a_folder_without_hdf5_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").touch()
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no \.hdf5 file; give the raw folder as"):
        build(tmp_path / "raw", tmp_path / "out")
