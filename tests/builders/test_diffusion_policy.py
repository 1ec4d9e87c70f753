"""builders/diffusion_policy on a small replay buffer in the real layout, one damaged store beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("zarr")

from builders.diffusion_policy.diffusion_policy_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from samples import zarr_replay_layout as layout  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def build(raw: Path, data_dir: Path, name: str):
    in_this_process = UnifiedConfig(name="tested", spec=load_spec(name), processes=1)
    builder = Builder(config=in_this_process, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_a_session_comes_out_with_its_videos_and_a_damaged_store_is_counted(tmp_path):
    raw = tmp_path / "raw"
    layout.write_real_session(raw / "a")
    (raw / "b.zarr.zip").write_bytes(b"PK no zip at all")
    builder = build(raw, tmp_path / "out", "diffusion_policy_real")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (3, 2)
    [entry] = facts["quarantined"]
    assert entry["episode"] == "b.zarr.zip" and "not a whole zip file" in entry["reason"]
    lengths = {}
    for example in builder.as_dataset(split="train"):
        steps = list(example["steps"].as_numpy_iterator())
        lengths[example["episode_metadata"]["source_path"].numpy().decode()] = len(steps)
        for t, step in enumerate(steps):
            shown = layout.draw(layout.VIDEO_FRAMES_A_STEP * t, side_px=96, view=1)
            assert np.abs(step["observation"]["image_secondary"].astype(int) - shown).mean() < 8
    assert lengths == {"a/replay_buffer.zarr/episode_0": 6, "a/replay_buffer.zarr/episode_1": 8}


def test_a_folder_without_a_store_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").touch()
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no \.zarr folder and no \.zip file; .*$"):
        build(tmp_path / "raw", tmp_path / "out", "pusht_zarr")
