"""RoboTurk's real-robot files with their videos, in the layout of samples/roboturk_layout.py."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.images import decode
from oxe_pipeline.ingest.roboturk import LONGER_VIDEO, SHORTER_VIDEO, find_episodes, read_episode
from samples.drawn import drawn_frames
from samples.roboturk_layout import HEIGHT_PX, WIDTH_PX, write_demo
from schemas.slots import ACTION_GROUPS, STATE_GROUPS
from schemas.spec import load_spec

h5py = pytest.importorskip("h5py")
pytest.importorskip("av")

FILE = "SawyerTowerCreation_aligned_dataset.hdf5"
STEPS = 8


@pytest.fixture
def raw(tmp_path) -> Path:
    write_demo(tmp_path / FILE, "user_2", "demo_10", steps=STEPS, seed=1)
    return tmp_path


def key(user="user_2", demo="demo_10") -> str:
    return f"{FILE}/{user}/{demo}"


def converted(root: Path, name: str):
    return apply_spec(read_episode(name, root=root), load_spec("roboturk_real"))


def test_demos_are_listed_user_by_user_in_the_order_of_their_numbers(raw):
    for user, demo in (("user_10", "demo_1"), ("user_2", "demo_9")):
        write_demo(raw / FILE, user, demo, steps=2)
    assert list(find_episodes(raw)) == [key("user_2", "demo_9"), key(), key("user_10", "demo_1")]


def test_a_demo_is_the_motion_between_its_poses_with_the_images_of_both_videos(raw):
    episode = converted(raw, key())
    with h5py.File(raw / FILE) as file:
        observed = file["data/user_2/demo_10/robot_observation"]
        poses, joints = observed["eef_poses"][()].astype(float), observed["joint_states_arm"][()].reshape(STEPS, 9, 3)
    assert (len(episode), episode.instruction, episode.success) == (STEPS - 1, "tower creation", -1)
    moved = episode.action[:, list(ACTION_GROUPS["arm0.eef_position_delta"].indices)]
    np.testing.assert_allclose(moved, np.diff(poses[:, :3], axis=0), atol=1e-6)
    turns = Rotation.from_quat(poses[:, 3:])
    turned = episode.action[:, list(ACTION_GROUPS["arm0.eef_rotation_delta"].indices)]
    np.testing.assert_allclose(turned, (turns[1:] * turns[:-1].inv()).as_rotvec(), atol=1e-5)
    held = episode.state[:, list(STATE_GROUPS["arm0.joint_position"].indices)]
    np.testing.assert_allclose(held, joints[:-1, 1:8, 0], atol=1e-6)
    assert not episode.action_mask[list(ACTION_GROUPS["arm0.gripper"].indices)].any()
    for camera, view in (("primary", 0), ("secondary", 1)):
        drawn = drawn_frames(STEPS, height=HEIGHT_PX, width=WIDTH_PX, view=view).astype(int)
        for step, image in enumerate(episode.images[camera]):
            assert np.abs(decode(image).astype(int) - drawn[step]).mean() < 8


def test_a_short_video_ends_its_demo_and_a_missing_one_leaves_its_camera_out(raw):
    write_demo(raw / FILE, "user_2", "short", steps=STEPS, video_images={"top_rgb": 5})
    short = converted(raw, key(demo="short"))
    assert len(short) == 4 and short.quality_flags == (SHORTER_VIDEO,)
    write_demo(raw / FILE, "user_2", "long", steps=STEPS, video_images={"top_rgb": STEPS + 2})
    long = converted(raw, key(demo="long"))
    assert len(long) == STEPS - 1 and long.quality_flags == (LONGER_VIDEO,)
    write_demo(raw / FILE, "user_2", "blind", steps=STEPS, video_images={"front_rgb": 0})
    assert list(converted(raw, key(demo="blind")).images) == ["secondary"]
    write_demo(raw / FILE, "user_2", "none", steps=STEPS, video_images={"front_rgb": 0, "top_rgb": 0})
    with pytest.raises(DataError, match=r"none: videos: none of the videos SawyerTowerCreation_videos/.* is there"):
        read_episode(key(demo="none"), root=raw)


def test_videos_may_lie_beside_the_folder_of_the_file(raw):
    (raw / "files").mkdir()
    (raw / FILE).rename(raw / "files" / FILE)
    assert len(converted(raw, f"files/{key()}")) == STEPS - 1


@pytest.mark.parametrize("name", ["../outside.mp4", "/etc/passwd", "a/../../outside.mp4"])
def test_a_video_path_that_leads_out_of_the_raw_folder_is_refused(tmp_path, name):
    raw = tmp_path / "raw"
    raw.mkdir()
    write_demo(raw / FILE, "user_2", "demo_10", steps=2)
    (tmp_path / "outside.mp4").touch()
    with h5py.File(raw / FILE, "a") as file:
        file["data/user_2/demo_10"].attrs["front_rgb_video_file"] = name
    with pytest.raises(DataError, match="leads out of the raw folder"):
        read_episode(key(), root=raw)


def test_damaged_files_and_odd_columns_are_named(raw):
    video = next((raw / "SawyerTowerCreation_videos").glob("*_front_rgb.mp4"))
    whole = video.read_bytes()
    video.write_bytes(whole[:200])
    with pytest.raises(DataError, match=r"demo_10: front_rgb: .*_front_rgb\.mp4: not a whole video"):
        read_episode(key(), root=raw)
    video.write_bytes(whole)
    with h5py.File(raw / FILE, "a") as file:
        observed = file["data/user_2/demo_10/robot_observation"]
        del observed["eef_poses"]
        observed["eef_poses"] = np.zeros((STEPS, 6))
    with pytest.raises(DataError, match=r"eef_poses: must be numbers \[T, 7\], is float64 \[8, 6\]"):
        read_episode(key(), root=raw)
    with h5py.File(raw / FILE, "a") as file:
        observed = file["data/user_2/demo_10/robot_observation"]
        del observed["eef_poses"]
        observed["eef_poses"] = np.zeros((STEPS - 1, 7))
    with pytest.raises(DataError, match=r"joint_states_arm: 8 rows, but eef_poses has 7"):
        read_episode(key(), root=raw)
    with pytest.raises(DataError, match="no such group in the file: data/user_2/absent"):
        read_episode(key(demo="absent"), root=raw)


def test_a_file_that_is_no_roboturk_file_is_one_bad_episode(raw):
    (raw / FILE).write_bytes((raw / FILE).read_bytes()[:900])
    with h5py.File(raw / "other.hdf5", "w") as file:
        file["weights"] = np.zeros(3)
    assert list(find_episodes(raw)) == [FILE, "other.hdf5"]
    with pytest.raises(DataError, match="not a whole HDF5 file"):
        read_episode(FILE, root=raw)
    with pytest.raises(DataError, match="no such group in the file: data"):
        read_episode("other.hdf5", root=raw)
