"""HDF5 files of both layouts, built here dataset by dataset."""

import json
from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.episode import DataError, Frames
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.hdf5_demo import find_demos, find_episodes, read_episode
from schemas.spec import load_spec

h5py = pytest.importorskip("h5py")

STEPS = 4


def write_file(path: Path, demos=(0, 1), *, attributes=None, masks=None) -> Path:
    """Demos whose actions hold the demo's number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, value in (attributes or {}).items():
            data.attrs[name] = value
        for number in demos:
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = np.full((STEPS, 7), number, np.float64)
            demo["obs/agentview_rgb"] = np.full((STEPS, 8, 8, 3), number, np.uint8)
            demo["obs/ee_states"] = np.zeros((STEPS, 6))
            demo["next_obs/agentview_rgb"] = np.zeros((STEPS, 8, 8, 3), np.uint8)
        for name, members in (masks or {}).items():
            file[f"mask/{name}"] = np.array([member.encode() for member in members])
    return path


def test_demos_are_ordered_by_number_over_files_ordered_by_path(tmp_path):
    write_file(tmp_path / "b.hdf5", [0])
    write_file(tmp_path / "a" / "x.h5", [10, 2, 1])
    (tmp_path / "notes.txt").touch()
    keys = ["a/x.h5/demo_1", "a/x.h5/demo_2", "a/x.h5/demo_10", "b.hdf5/demo_0"]
    assert list(find_episodes(tmp_path)) == keys


def test_columns_come_under_their_path_without_the_demo_and_next_obs_is_left_out(tmp_path):
    write_file(tmp_path / "x.hdf5", [3])
    episode = read_episode("x.hdf5/demo_3", root=tmp_path)
    assert sorted(episode.steps) == ["data/actions", "data/obs/agentview_rgb", "data/obs/ee_states"]
    assert episode.steps["data/actions"].tolist() == [[3.0] * 7] * STEPS
    assert episode.steps["data/obs/agentview_rgb"].dtype == np.uint8
    assert episode.source_path == "x.hdf5/demo_3"


def test_what_the_file_says_about_the_task_is_passed_on_untouched(tmp_path):
    problem, arguments = {"language_instruction": '"Turn on the stove"'}, {"env_name": "Kitchen"}
    attributes = {"problem_info": json.dumps(problem), "env_args": json.dumps(arguments)}
    write_file(tmp_path / "suite" / "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", attributes=attributes)
    key = "suite/KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5/demo_0"
    assert read_episode(key, root=tmp_path).metadata == {
        "file_name": "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5",
        "problem_info/language_instruction": '"Turn on the stove"',
        "env_name": "Kitchen",
        "instruction": [],
    }


def test_a_file_without_attributes_is_read_too(tmp_path):
    write_file(tmp_path / "plain.hdf5")
    assert read_episode("plain.hdf5/demo_0", root=tmp_path).metadata == {
        "file_name": "plain.hdf5",
        "instruction": [],
    }


def test_masks_that_are_splits_are_honoured_and_others_ignored(tmp_path):
    masks = {"train": ["demo_0"], "valid": ["demo_1"], "20_percent": ["demo_2"]}
    write_file(tmp_path / "x.hdf5", [0, 1, 2], masks=masks)
    splits = [read_episode(f"x.hdf5/demo_{number}", root=tmp_path).split for number in range(3)]
    assert splits == ["train", "val", ""]


def test_the_file_is_closed_after_each_read(tmp_path):
    write_file(tmp_path / "x.hdf5")
    read_episode("x.hdf5/demo_0", root=tmp_path)
    write_file(tmp_path / "x.hdf5", [7])  # fails while a reader holds the file open
    assert find_demos("x.hdf5", root=tmp_path) == ["demo_7"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_one_key_whose_reading_names_the_file_in_one_line(tmp_path, share):
    content = write_file(tmp_path / "x.hdf5").read_bytes()
    (tmp_path / "x.hdf5").write_bytes(content[: int(len(content) * share)])
    assert list(find_episodes(tmp_path)) == ["x.hdf5"]
    with pytest.raises(DataError, match=r"x\.hdf5: file: not a whole HDF5 file, copy it again") as caught:
        read_episode("x.hdf5", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_image_block_names_the_demo_and_the_column(tmp_path):
    path = tmp_path / "x.hdf5"
    pixels = np.random.default_rng(0).integers(0, 256, (STEPS, 32, 32, 3), np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("data/demo_0/obs/rgb", data=pixels, compression="gzip", chunks=pixels.shape)
        place = file["data/demo_0/obs/rgb"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.hdf5/demo_0: data/obs/rgb: cannot be read"):
        read_episode("x.hdf5/demo_0", root=tmp_path)


def test_files_that_are_no_demonstrations_say_what_they_lack(tmp_path):
    write_file(tmp_path / "empty.hdf5", [])
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["weights"] = np.zeros(3)
    assert list(find_episodes(tmp_path)) == ["empty.hdf5", "other.hdf5"]
    for key in ("empty.hdf5", "other.hdf5"):
        with pytest.raises(DataError, match=r"holds no group /data/demo_<N>; not a robomimic or LIBERO file"):
            read_episode(key, root=tmp_path)
    write_file(tmp_path / "x.hdf5")
    with pytest.raises(DataError, match=r"x\.hdf5/demo_9: demo_9: no such group in the file: demo_9"):
        read_episode("x.hdf5/demo_9", root=tmp_path)


def test_arrays_where_groups_belong_are_data_errors(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["data"] = np.zeros(3)
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["data/demo_0"] = np.zeros(3)
    assert list(find_episodes(tmp_path)) == ["a.hdf5", "b.hdf5/demo_0"]
    with pytest.raises(DataError, match=r"a\.hdf5: data: holds no group"):
        read_episode("a.hdf5", root=tmp_path)
    with pytest.raises(DataError, match=r"b\.hdf5/demo_0: demo_0: is an array"):
        read_episode("b.hdf5/demo_0", root=tmp_path)


def test_a_mask_may_be_a_single_name_and_a_group_is_no_mask(tmp_path):
    with h5py.File(write_file(tmp_path / "x.hdf5"), "a") as file:
        file.create_group("mask/train")
        file["mask/valid"] = b"demo_0"
    assert read_episode("x.hdf5/demo_0", root=tmp_path).split == "val"
    assert read_episode("x.hdf5/demo_1", root=tmp_path).split == ""


def test_a_file_linked_from_outside_the_raw_folder_is_refused(tmp_path):
    outside = write_file(tmp_path / "outside.hdf5")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "linked.hdf5").symlink_to(outside)
    with pytest.raises(DataError, match=r"linked\.hdf5: leads out of the raw folder"):
        read_episode("linked.hdf5", root=tmp_path / "raw")


def add_external_link(demo, outside: Path):
    demo["borrowed"] = h5py.ExternalLink(str(outside), "/data/demo_0/actions")


def add_external_bytes(demo, outside: Path):
    demo.create_dataset("borrowed", (8,), np.uint8, external=[(str(outside), 0, 8)])


def add_virtual_dataset(demo, outside: Path):
    layout = h5py.VirtualLayout((STEPS, 7), np.float64)
    layout[:] = h5py.VirtualSource(str(outside), "data/demo_0/actions", shape=(STEPS, 7))
    demo.create_virtual_dataset("borrowed", layout)


@pytest.mark.parametrize("borrow", [add_external_link, add_external_bytes, add_virtual_dataset])
def test_data_that_hdf5_would_fetch_from_another_file_is_refused(tmp_path, borrow):
    outside = write_file(tmp_path / "outside.hdf5")
    with h5py.File(write_file(tmp_path / "raw" / "x.hdf5"), "a") as file:
        borrow(file["data/demo_0"], outside)
    with pytest.raises(DataError, match="data/borrowed: is a link to another file or place"):
        read_episode("x.hdf5/demo_0", root=tmp_path / "raw")


def test_an_attribute_that_is_not_json_is_a_data_error(tmp_path):
    write_file(tmp_path / "x.hdf5", attributes={"problem_info": "{broken"})
    with pytest.raises(DataError, match="attribute problem_info: is not JSON"):
        read_episode("x.hdf5/demo_0", root=tmp_path)


def test_an_array_for_an_attribute_and_a_damaged_mask_are_data_errors(tmp_path):
    with h5py.File(write_file(tmp_path / "x.hdf5"), "a") as file:
        file["data"].attrs["problem_info"] = np.zeros(4)
    with pytest.raises(DataError, match="attribute problem_info: is not text"):
        read_episode("x.hdf5/demo_0", root=tmp_path)
    with h5py.File(write_file(tmp_path / "x.hdf5"), "a") as file:
        file["mask"] = h5py.ExternalLink("y.hdf5", "/mask")
    with pytest.raises(DataError, match="mask: is a link"):
        read_episode("x.hdf5/demo_0", root=tmp_path)


def test_pixels_beyond_what_is_held_come_one_image_at_a_time(tmp_path, monkeypatch):
    write_file(tmp_path / "x.hdf5")
    whole = read_episode("x.hdf5/demo_1", root=tmp_path).steps["data/obs/agentview_rgb"]
    monkeypatch.setattr("oxe_pipeline.ingest.hdf5_demo.HELD_BYTES", 100)
    frames = read_episode("x.hdf5/demo_1", root=tmp_path).steps["data/obs/agentview_rgb"]
    assert isinstance(frames, Frames) and np.array_equal(np.stack(list(frames)), whole)


def test_ours_stands_in_where_a_known_task_has_no_sentence(tmp_path):
    attributes = {"env_args": json.dumps({"env_name": "PickPlaceCan"})}
    write_file(tmp_path / "x.hdf5", attributes=attributes)
    episode = read_episode("x.hdf5/demo_0", root=tmp_path)
    assert episode.metadata["instruction"] == ["pick up the can and put it into its bin"]
    with h5py.File(tmp_path / "x.hdf5", "a") as file:
        file["data/demo_0"].attrs["ep_meta"] = json.dumps({"lang": "take the can out of the fridge"})
    episode = read_episode("x.hdf5/demo_0", root=tmp_path)
    assert episode.metadata["instruction"] == ["take the can out of the fridge"]


@pytest.mark.parametrize("task, steps", [("door", 261), ("lift", 412), ("pick-place", 1482)])
def test_real_teleoperation_comes_through_in_metres(real_data, task, steps):
    root = real_data / "robosuite_hdf5" / task
    [key] = find_episodes(root)
    source = read_episode(key, root=root)
    episode = apply_spec(source, load_spec("robosuite"))
    assert len(episode) == steps and episode.images == {} and episode.instruction
    assert np.allclose(episode.action[:, :3], source.steps["data/actions"][:, :3] * 0.05, atol=1e-7)
    assert np.abs(episode.action[:, :3]).max() < 0.05 and set(episode.action[:, 6].tolist()) <= {0, 1}
