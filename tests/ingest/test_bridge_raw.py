"""Bridge raw folders built here file by file, and the one real episode where it is at hand."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.bridge_raw import find_episodes, read_episode
from schemas.rlds import ABSENT_IMAGE

LENGTH = 12
"""More than ten, so that im_10 sorts before im_2 as text."""


def jpeg(camera: int, step: int) -> bytes:
    """Not a decodable image: the reader must not care what is in it."""
    return b"\xff\xd8" + bytes([camera, step]) + b"\xff\xd9"


def write_episode(
    folder: Path, *, length=LENGTH, cameras=(0, 1), bare_actions=False, key="full_state", lang=None
) -> Path:
    """An episode whose state and action at step t are t and -t."""
    folder.mkdir(parents=True)
    for camera in cameras:
        (folder / f"images{camera}").mkdir()
        for step in range(length):
            (folder / f"images{camera}" / f"im_{step}.jpg").write_bytes(jpeg(camera, step))
    states = np.repeat(np.arange(length, dtype=np.float64)[:, None], 7, axis=1)
    rows = [np.full(7, -step, np.float64) for step in range(length - 1)]
    dump(folder / "obs_dict.pkl", {key: states, "time_stamp": list(range(length))})
    dump(folder / "policy_out.pkl", rows if bare_actions else [{"actions": row, "policy_type": "x"} for row in rows])
    # What a ROS recorder writes: a class that is not installed. Reading it would fail, so it must not be read.
    (folder / "agent_data.pkl").write_bytes(b"csensor_msgs.msg\nCameraInfo\n.")
    if lang is not None:
        (folder / "lang.txt").write_bytes(lang)
    return folder


def dump(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=4))


def test_episodes_are_found_at_any_depth_in_numeric_order_without_caches_and_links(tmp_path):
    for path in ("a/00/raw/traj_group0/traj10", "a/00/raw/traj_group0/traj9", "traj1", "b/c_lmdb/traj0", "a/2/traj0"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b")
    (tmp_path / "a" / "traj5").touch()
    expected = ["a/00/raw/traj_group0/traj9", "a/00/raw/traj_group0/traj10", "a/2/traj0", "traj1"]
    assert list(find_episodes(tmp_path)) == expected


def test_steps_pair_each_observation_with_the_action_that_followed_it(tmp_path):
    write_episode(tmp_path / "traj0")
    episode = read_episode("traj0", root=tmp_path)
    steps = np.arange(LENGTH - 1)
    assert episode.steps["observation/state"].tolist() == np.repeat(steps[:, None], 7, 1).tolist()
    assert episode.steps["action"].tolist() == np.repeat(-steps[:, None], 7, 1).tolist()
    for camera in (0, 1):
        assert episode.steps[f"observation/image_{camera}"] == [jpeg(camera, step) for step in steps]
    assert (episode.key, episode.source_path, episode.split) == ("traj0", "traj0", "")


@pytest.mark.parametrize("variation", [{"bare_actions": True}, {"key": "state"}])
def test_early_forms_of_both_pickles_read_the_same(tmp_path, variation):
    write_episode(tmp_path / "traj0")
    write_episode(tmp_path / "traj1", **variation)
    plain, early = read_episode("traj0", root=tmp_path), read_episode("traj1", root=tmp_path)
    for key in ("observation/state", "action"):
        assert np.array_equal(plain.steps[key], early.steps[key])


def test_an_absent_camera_is_black_in_every_step_and_unwanted_ones_are_not_read(tmp_path):
    write_episode(tmp_path / "traj0", cameras=(0, 3))
    steps = read_episode("traj0", root=tmp_path, cameras=(0, 1)).steps
    assert steps["observation/image_1"] == [ABSENT_IMAGE] * (LENGTH - 1)
    assert "observation/image_3" not in steps
    assert read_episode("traj0", root=tmp_path).steps["observation/image_3"][5] == jpeg(3, 5)


@pytest.mark.parametrize(
    ("date", "late"), [("2021-07-22_23-59-59", 1), ("2021-07-23_00-00-00", 0), ("2018-05-01_10-00-00", 1)]
)
def test_before_the_cameras_were_in_time_observations_move_one_step_earlier(tmp_path, date, late):
    path = f"kitchen/{date}/raw/traj_group0/traj0"
    write_episode(tmp_path / path)
    steps = read_episode(path, root=tmp_path).steps
    assert len(steps["action"]) == LENGTH - 1 - late
    assert steps["action"][0, 0] == 0
    assert steps["observation/state"][0, 0] == late
    assert steps["observation/image_0"][0] == jpeg(0, late)
    assert steps["observation/state"][-1, 0] == LENGTH - 2


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (None, []),
        (b"", []),
        (b"open it\n\npull\nconfidence: 1\n", [b"open it", b"", b"pull", b"confidence: 1"]),
        ("Tür zu\n".encode(), ["Tür zu".encode()]),
        ("Tür zu\n".encode("latin-1"), [b"T\xfcr zu"]),
    ],
)
def test_every_line_of_lang_txt_is_passed_on_untouched(tmp_path, text, labels):
    write_episode(tmp_path / "traj0", lang=text)
    assert read_episode("traj0", root=tmp_path).metadata["language_instruction"] == labels


def test_a_dated_folder_that_is_no_date_leaves_the_alignment_unknown(tmp_path):
    path = "kitchen/2021-13-45_10-00-00/raw/traj_group0/traj0"
    write_episode(tmp_path / path)
    with pytest.raises(DataError, match=r"folder 2021-13-45_10-00-00 is no date"):
        read_episode(path, root=tmp_path)


def remove(name):
    return lambda folder: (folder / name).unlink()


def shorten_actions(folder):
    dump(folder / "policy_out.pkl", [np.zeros(7)] * (LENGTH - 3))


def link_out(name):
    def spoil(folder):
        outside = folder.parent.parent / "outside"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("obs_dict.pkl"), r"obs_dict\.pkl: no such file"),
        (remove("policy_out.pkl"), r"policy_out\.pkl: no such file"),
        (remove("images1/im_3.jpg"), r"images1: 11 images for 12 observations: im_3\.jpg is missing"),
        (lambda f: (f / "images0/im_12.jpg").touch(), "images0: 13 images for 12 observations: there are more"),
        (shorten_actions, r"policy_out\.pkl: 9 actions for 12 observations; there must be one action less"),
        (lambda f: dump(f / "policy_out.pkl", []), r"policy_out\.pkl: must be a list"),
        (lambda f: dump(f / "policy_out.pkl", [{"action": 1}]), r"policy_out\.pkl: an entry has no `actions`"),
        (lambda f: dump(f / "obs_dict.pkl", {"qpos": 1}), r"obs_dict\.pkl: must be a dict with full_state or state"),
        (lambda f: dump(f / "obs_dict.pkl", {"state": [[1], [1, 2]]}), "is not a table of numbers"),
        (lambda f: dump(f / "obs_dict.pkl", {"state": Path("x")}), "needs the class pathlib"),
        (
            lambda f: [(f / name).rename(f / f"depth_{name}") for name in ("images0", "images1")],
            "none of the camera folders",
        ),
        (link_out("images0/im_4.jpg"), r"im_4\.jpg: leads out of the raw folder"),
        (link_out("obs_dict.pkl"), r"obs_dict\.pkl: leads out of the raw folder"),
        (link_out("lang.txt"), r"lang\.txt: leads out of the raw folder"),
    ],
)
def test_a_damaged_episode_is_a_one_line_data_error_that_names_episode_and_file(tmp_path, spoil, message):
    spoil(write_episode(tmp_path / "raw" / "traj0", lang=b"open it\n"))
    with pytest.raises(DataError, match=message) as caught:
        read_episode("traj0", root=tmp_path / "raw")
    assert "\n" not in str(caught.value) and "traj0" in str(caught.value)


@pytest.mark.parametrize("path", ["../other/traj0", "linked/traj0"])
def test_a_path_out_of_the_raw_folder_is_refused(tmp_path, path):
    write_episode(tmp_path / "other" / "traj0")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "linked").symlink_to(tmp_path / "other")
    with pytest.raises(DataError, match="leads out of the raw folder"):
        read_episode(path, root=tmp_path / "raw")


def test_the_real_episode_reads_with_its_bytes_and_its_one_action_less(real_data):
    root = real_data / "bridge_raw"
    assert list(find_episodes(root)) == ["traj3"]
    episode = read_episode("traj3", root=root)
    assert {key: len(column) for key, column in episode.steps.items()} == dict.fromkeys(
        ["observation/state", "action", *(f"observation/image_{camera}" for camera in range(4))], 107
    )
    assert episode.steps["observation/image_0"][100] == (root / "traj3/images0/im_100.jpg").read_bytes()
    assert episode.metadata["language_instruction"] == [b"open the drawer and put the purple thing in it"]
    # The commanded displacement and the one achieved by the next step go the same way.
    moved = np.diff(episode.steps["observation/state"][:, :3], axis=0)
    assert np.corrcoef(moved.ravel(), episode.steps["action"][:-1, :3].ravel())[0, 1] > 0.5
