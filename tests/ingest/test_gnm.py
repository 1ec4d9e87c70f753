"""Image folders with traj_data.pkl, in the layout of samples/gnm_layout.py."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.gnm import find_episodes, read_episode
from samples.gnm_layout import make_drive, write_folder
from schemas.slots import ACTION_GROUPS, STATE_GROUPS
from schemas.spec import load_spec

STEPS = 12
DRIVE = make_drive(STEPS)


@pytest.fixture
def raw(tmp_path) -> Path:
    write_folder(tmp_path / "recon" / "jackal_2019-07-01", DRIVE)
    return tmp_path


def expected_velocity(position: np.ndarray, yaw: np.ndarray, hz: float) -> np.ndarray:
    """[T-1, 3] by complex numbers: displacement turned back by the heading, and the angle of the heading's change."""
    place, heading = position[:, 0] + 1j * position[:, 1], np.exp(1j * yaw)
    seen = np.diff(place) / heading[:-1]
    return np.column_stack([seen.real, seen.imag, np.angle(heading[1:] / heading[:-1])]) * hz


def poses(folder: Path, **content) -> None:
    (folder / "traj_data.pkl").write_bytes(pickle.dumps(content))


def test_recordings_are_found_at_any_depth_in_the_order_of_their_numbers(tmp_path):
    for name in ("b/run_10", "b/run_2", "a/x/run_1"):
        write_folder(tmp_path / name, make_drive(2))
    (tmp_path / "c").mkdir()
    (tmp_path / "d").symlink_to(tmp_path / "b")
    assert list(find_episodes(tmp_path)) == ["a/x/run_1", "b/run_2", "b/run_10"]


def test_the_action_is_the_velocity_to_the_next_pose_in_the_robots_frame(raw):
    (key,) = find_episodes(raw)
    source = read_episode(key, root=raw)
    assert source.metadata == {"dataset": "recon"}
    episode = apply_spec(source, load_spec("gnm"))
    assert len(episode) == STEPS - 1 and episode.instruction == "" and episode.label_flags == ("missing",)
    moved = episode.action[:, list(ACTION_GROUPS["base_velocity"].indices)]
    np.testing.assert_allclose(moved, expected_velocity(DRIVE.position, DRIVE.yaw, 4), atol=1e-5)
    assert (moved[:, 0] > 0.5).all() and np.abs(moved[:, 2]).max() < 1  # ahead, and no jump at pi
    assert np.abs(np.diff(DRIVE.yaw)).max() > 6
    pose = episode.state[:, list(STATE_GROUPS["base_pose"].indices)]
    np.testing.assert_allclose(pose[:, :2], DRIVE.position[:-1], atol=1e-6)
    np.testing.assert_allclose(np.arctan2(pose[:, 3], pose[:, 2]), DRIVE.yaw[:-1], atol=1e-6)
    assert int(episode.action_mask.sum()) == 3


def test_images_are_the_files_in_the_order_of_their_numbers_and_one_too_many_is_left(raw):
    (key,) = find_episodes(raw)
    assert (raw / key / f"{STEPS}.jpg").exists()
    images = read_episode(key, root=raw).steps["image"]
    assert images == [(raw / key / f"{step}.jpg").read_bytes() for step in range(STEPS)]


@pytest.mark.parametrize("yaw", [DRIVE.yaw, DRIVE.yaw[:, None], DRIVE.yaw.tolist()])
def test_yaw_may_be_flat_one_wide_or_a_list(raw, yaw):
    (key,) = find_episodes(raw)
    poses(raw / key, position=DRIVE.position, yaw=yaw)
    assert read_episode(key, root=raw).steps["yaw"].tolist() == DRIVE.yaw[:, None].tolist()


def folded_lists(depth: int) -> list:
    """2**depth numbers in some bytes of a pickle."""
    rows: list = [1.0, 2.0]
    for _ in range(depth):
        rows = [rows, rows]
    return rows


class Foreign:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"position": DRIVE.position}, "must be a dict with position and yaw"),
        ({"position": DRIVE.position, "yaw": DRIVE.yaw[1:]}, r"yaw is \[11\] for 12 positions"),
        ({"position": DRIVE.position[:, :1], "yaw": DRIVE.yaw}, r"position must be \[T, 2\]"),
        ({"position": np.zeros((0, 2)), "yaw": []}, "of 1 to 100000 poses"),
        ({"position": [["a", "b"]], "yaw": [0]}, "not numbers"),
        ({"position": [[10**400, 0]], "yaw": [0]}, "not numbers: int too large"),
        ({"position": folded_lists(40), "yaw": [0]}, "not numbers: must be numbers, at most 100000 rows"),
        ({"position": np.zeros((10**10, 2), "V0"), "yaw": [0]}, "not numbers: must be numbers"),
        ({"position": np.ones((3, 2), complex), "yaw": [0] * 3}, "not numbers: must be numbers"),
        ({"position": DRIVE.position, "yaw": Foreign()}, r"needs the class builtins\.print"),
        ({"position": np.zeros((14, 2)), "yaw": np.zeros(14)}, r"images: 13 images for 14 poses: 13\.jpg is missing"),
        ({"position": np.zeros((5, 2)), "yaw": np.zeros(5)}, "13 images for 5 poses: at most one more is usual"),
    ],
)
def test_poses_that_do_not_fit_are_named(raw, capsys, content, reason):
    (key,) = find_episodes(raw)
    poses(raw / key, **content)
    with pytest.raises(DataError, match=reason) as caught:
        read_episode(key, root=raw)
    assert caught.value.episode == key and "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_files_outside_the_raw_folder_and_absent_ones_are_refused(raw, tmp_path_factory):
    (key,) = find_episodes(raw)
    outside = tmp_path_factory.mktemp("outside") / "x.jpg"
    outside.write_bytes((raw / key / "3.jpg").read_bytes())
    (raw / key / "3.jpg").unlink()
    (raw / key / "3.jpg").symlink_to(outside)
    with pytest.raises(DataError, match=r"3\.jpg: leads out of the raw folder"):
        read_episode(key, root=raw)
    (raw / key / "traj_data.pkl").unlink()
    with pytest.raises(DataError, match=r"traj_data\.pkl: no such file"):
        read_episode(key, root=raw)


@given(data=st.data())
def test_any_damage_to_the_poses_is_a_data_error_or_still_an_episode(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed_gnm" / "one"
    if not folder.exists():
        write_folder(folder, make_drive(3))
    content = bytearray(pickle.dumps({"position": DRIVE.position[:3], "yaw": DRIVE.yaw[:3]}))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    (folder / "traj_data.pkl").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        episode = apply_spec(read_episode("one", root=folder.parent), load_spec("gnm"))
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(episode.action).all()
