"""builders/libero on the sample files: upright pixels, observations before actions, units, damaged files counted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, tfds_build

tfds = pytest.importorskip("tensorflow_datasets")
h5py = pytest.importorskip("h5py")

from builders.libero.libero_dataset_builder import Builder  # noqa: E402
from builders.unified import BuildStopped, UnifiedConfig  # noqa: E402
from schemas.spec import load_spec  # noqa: E402

SAMPLES = ROOT / "samples" / "metaworld_libero"
BUTTON = "TABLE_SCENE2_press_the_red_button_from_above_demo.hdf5"
WINDOW = "TABLE_SCENE3_close_the_sliding_window_demo.hdf5"


def build(raw: Path, data_dir: Path):
    in_this_process = UnifiedConfig(name="tested", spec=load_spec("metaworld_libero"), processes=1)
    builder = Builder(config=in_this_process, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=raw))
    return builder


def read_back(folder: Path) -> dict[str, dict]:
    """source_path -> episode, by plain TFDS, images decoded."""
    episodes = {}
    for example in tfds.builder_from_directory(folder).as_dataset(split="train"):
        metadata = example["episode_metadata"]
        episodes[metadata["source_path"].numpy().decode()] = {
            "metadata": metadata,
            "steps": list(example["steps"].as_numpy_iterator()),
        }
    return episodes


@pytest.fixture
def raw(tmp_path) -> Path:
    """One sample file, cut to its first three demos."""
    (tmp_path / "raw").mkdir()
    with h5py.File(SAMPLES / BUTTON) as source, h5py.File(tmp_path / "raw" / BUTTON, "w") as copy:
        data = copy.create_group("data")
        data.attrs.update(source["data"].attrs)
        for number in range(3):
            source.copy(f"data/demo_{number}", data)
    return tmp_path / "raw"


def test_every_demo_of_every_sample_file_comes_out(demo_rlds):
    expected = {}
    for path in SAMPLES.glob("*.hdf5"):
        with h5py.File(path) as file:
            # One row is lost where observations move onto the action that followed them.
            expected |= {f"{path.name}/{name}": len(demo["actions"]) - 1 for name, demo in file["data"].items()}
    episodes = read_back(demo_rlds["metaworld_libero"])
    assert {path: len(episode["steps"]) for path, episode in episodes.items()} == expected


def test_each_observation_stands_before_its_action_with_upright_images_in_si_units(tmp_path, raw):
    episodes = read_back(build(raw, tmp_path / "out").data_path)
    with h5py.File(raw / BUTTON) as file:
        for name, demo in file["data"].items():
            steps = episodes[f"{BUTTON}/{name}"]["steps"]
            for t, step in enumerate(steps):
                assert np.allclose(step["action"][:3], demo["actions"][t + 1, :3] * 0.05, atol=1e-7)
                assert step["action"][6] == (1 if demo["actions"][t + 1, 6] == -1 else 0)
                assert np.allclose(step["observation"]["state"][:3], demo["obs/ee_states"][t, :3])
                assert np.allclose(step["observation"]["state"][10:17], demo["obs/joint_states"][t])
                for camera, column in (("primary", "agentview_rgb"), ("wrist", "eye_in_hand_rgb")):
                    upright = demo[f"obs/{column}"][t][::-1].astype(int)
                    difference = np.abs(step["observation"][f"image_{camera}"].astype(int) - upright)
                    assert difference.mean() < 2.5, (name, t, camera)  # one pass of JPEG at quality 95


def test_masks_labels_and_success_are_those_of_the_files(tmp_path, raw):
    for episode in read_back(build(raw, tmp_path / "out").data_path).values():
        metadata = episode["metadata"]
        assert np.flatnonzero(metadata["action_mask"]).tolist() == [0, 1, 2, 6]
        assert episode["steps"][0]["language_instruction"] == b"press the red button from above"
        assert [text.decode() for text in metadata["alternatives"].numpy()] == ["push the button down"]
        assert metadata["success"].numpy() == 1
        assert metadata["has_image_wrist"].numpy() and not metadata["has_image_secondary"].numpy()


def test_a_truncated_file_is_one_quarantined_entry_and_the_other_files_are_built(tmp_path, raw):
    content = (SAMPLES / WINDOW).read_bytes()
    (raw / WINDOW).write_bytes(content[: len(content) // 2])
    builder = build(raw, tmp_path / "out")
    facts = json.loads((Path(builder.data_path) / "metadata.json").read_text())
    assert (facts["episodes_in"], facts["episodes_out"]) == (4, 3)
    [entry] = facts["quarantined"]
    assert entry["episode"] == WINDOW and "not a whole HDF5 file" in entry["reason"]


def test_nan_actions_are_quarantined_by_slot_and_step(tmp_path, raw):
    with h5py.File(raw / BUTTON, "a") as file:
        actions = file["data/demo_1/actions"][()]
        actions[5, 2] = np.nan
        file["data/demo_1/actions"][...] = actions
    builder = build(raw, tmp_path / "out")
    [entry] = json.loads((Path(builder.data_path) / "metadata.json").read_text())["quarantined"]
    assert entry["episode"] == f"{BUTTON}/demo_1" and "nan" in entry["reason"]


def test_a_folder_without_hdf5_stops_the_build_in_one_line(tmp_path):
    (tmp_path / "raw").mkdir()
    shutil.copy(SAMPLES.parent / "README.md", tmp_path / "raw")
    with pytest.raises(
        BuildStopped, match=r"^error: .*raw: holds no \.hdf5 file; give the raw folder as --manual_dir$"
    ):
        build(tmp_path / "raw", tmp_path / "out")


def test_the_command_as_typed_takes_another_file_format_and_a_limit(tmp_path, raw):
    limit = ("--file_format", "array_record", "--max_examples_per_split", "2")
    tfds_build("libero", "metaworld_libero", raw, tmp_path / "out", *limit)
    builder = tfds.builder_from_directory(tmp_path / "out" / "libero" / "metaworld_libero" / "1.0.0")
    assert builder.info.splits["train"].num_examples == 2
    assert builder.info.file_format.value == "array_record"
