"""builders/droid on the tree that the sample script writes: dirt as in the real collection, in = out + quarantined."""

import json
from pathlib import Path

import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("av")
pytest.importorskip("h5py")

from builders.droid.droid_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from samples.droid_layout import main as write_sample  # noqa: E402
from schemas.spec import load_spec  # noqa: E402


def prepare(raw: Path, data_dir: Path) -> Builder:
    config = UnifiedConfig(name="tested", spec=load_spec("droid_raw"), processes=1)
    builder = Builder(config=config, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def test_the_sample_tree_is_built_and_an_episode_without_recordings_set_aside(tmp_path):
    raw = tmp_path / "raw"
    assert write_sample(["--out", str(raw), "--episodes", "4"]) == 0
    lost = "SAMP/success/2026-11-23/Mon_Nov_23_10:03:00_2026"
    for path in (raw / lost / "recordings/MP4").iterdir():
        path.unlink()
    builder = prepare(raw, tmp_path / "out")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (4, 3)
    [entry] = facts["quarantined"]
    assert entry["episode"] == lost and "13062452.mp4: no such file" in entry["reason"]
    assert facts["annotation_files"] == ["aggregated-annotations-030724.json"]
    assert facts["episodes_with_sentences"] == 3
    read = {}
    for example in builder.as_dataset(split="train"):
        metadata = example["episode_metadata"]
        steps = list(example["steps"].as_numpy_iterator())
        read[metadata["source_path"].numpy().decode()[-13:-8]] = (len(steps), int(metadata["success"]), steps[0])
    lengths = {minute: (length, success) for minute, (length, success, _) in read.items()}
    # The second episode has a video that is one frame short; the third is a failure without sentences.
    assert lengths == {"10:00": (19, 1), "10:01": (17, 1), "10:02": (18, 0)}
    assert read["10:00"][2]["language_instruction"] == b"open the green drawer"
    assert read["10:02"][2]["language_instruction"] == b""
    assert read["10:00"][2]["observation"]["image_wrist"].shape == (112, 112, 3)


def test_a_folder_of_another_layout_stops_in_one_line(tmp_path):
    (tmp_path / "raw" / "success_stories").mkdir(parents=True)
    with pytest.raises(BuildStopped, match=r"^error: .*raw: holds no <LAB>/success/<date>/<time> or .*--manual_dir$"):
        prepare(tmp_path / "raw", tmp_path / "out")
