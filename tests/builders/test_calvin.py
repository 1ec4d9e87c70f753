"""builders/calvin as typed, on a sample in the real layout: both splits, and what is set aside."""

import json

import numpy as np
import pytest

from samples.calvin_layout import Window, write_split
from tests.conftest import tfds_build

tfds = pytest.importorskip("tensorflow_datasets")

from builders.calvin.calvin_dataset_builder import Builder, frame_counts  # noqa: E402
from builders.unified import BuildStopped  # noqa: E402
from oxe_pipeline.ingest.calvin_index import Segment  # noqa: E402
from schemas.spec import DATASETS_FOLDER  # noqa: E402


def test_windows_of_both_splits_are_built_and_bad_ones_set_aside(tmp_path):
    sentences = [Window(start=10 + i, end=14 + i, sentence=f"push block {i}", task="push") for i in range(3)]
    bad = Window(start=90, end=95, sentence="outside", task="x")
    write_split(tmp_path / "raw" / "training", [(10, 20)], [*sentences, bad])
    write_split(tmp_path / "raw" / "validation", [(5, 9)], [Window(start=5, end=8, sentence="lift it", task="lift")])
    tfds_build("calvin", "calvin", tmp_path / "raw", tmp_path / "out")
    folder = tmp_path / "out" / "calvin" / "calvin" / "1.0.0"
    facts = json.loads((folder / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (5, 4)
    assert [entry["episode"] for entry in facts["quarantined"]] == ["training/0000090-0000094"]
    assert facts["frames"] == {
        "train": {"referred_to": 17, "different": 11}, "val": {"referred_to": 3, "different": 3},
    }  # fmt: skip
    builder = tfds.builder_from_directory(folder)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 3, "val": 1}
    (episode,) = builder.as_dataset(split="val")
    steps = list(episode["steps"].as_numpy_iterator())
    rows = [np.load(tmp_path / "raw" / "validation" / f"episode_{n:07d}.npz") for n in range(5, 8)]
    moved = [row["actions"][:3] - row["robot_obs"][:3] for row in rows]
    np.testing.assert_allclose([step["action"][:3] for step in steps], moved, atol=1e-6)
    assert steps[0]["language_instruction"] == b"lift it"
    assert [bool(step["is_terminal"]) for step in steps] == [False, False, True]


def test_frames_are_counted_each_time_and_once():
    def segment(folder, first, stop):
        return Segment(folder=folder, first=first, stop=stop)

    found = {"train": [segment("b", 0, 4), segment("a", 6, 9), segment("a", 0, 10), segment("a", 9, 12)]}
    seen = {(s.folder, n) for s in found["train"] for n in range(s.first, s.stop)}
    assert frame_counts(found) == {"train": {"referred_to": 20, "different": len(seen)}}


def test_a_folder_that_is_not_calvins_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "notes.txt").touch()
    builder = Builder(config="calvin", data_dir=tmp_path / "out")
    with pytest.raises(BuildStopped, match=r"^error: .*raw: no ep_start_end_ids\.npy in it or below; give CALVIN's"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "raw"))


@pytest.mark.parametrize("name", ["training", "validation"])
def test_a_split_folder_given_by_itself_keeps_its_split_and_a_spec_of_ones_own_is_read(tmp_path, monkeypatch, name):
    write_split(tmp_path / name, [(0, 6)], [Window(start=0, end=3, sentence="lift it", task="lift")])
    own = tmp_path / "mylab.yaml"
    own.write_text((DATASETS_FOLDER / "calvin.yaml").read_text().replace("name: calvin", "name: mylab", 1))
    builder = Builder(config=str(own), data_dir=tmp_path / "out")
    monkeypatch.chdir(tmp_path / name)
    ((split, (segment,)),) = builder.list_episodes(".").items()
    assert (split, str(segment)) == ({"training": "train", "validation": "val"}[name], f"{name}/0000000-0000002")
    assert builder.read_episode()(segment).split == name


def test_without_a_language_source_the_recordings_are_taken_whole(tmp_path):
    write_split(tmp_path / "training", [(0, 6)])
    builder = Builder(config="calvin_play", data_dir=tmp_path / "out")
    assert [str(segment) for segment in builder.list_episodes(str(tmp_path))["train"]] == ["training/0000000-0000006"]
