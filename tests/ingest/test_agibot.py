"""AgiBot World's files in their published layout: absent commands, sub-tasks, partial copies, faults that are known."""

import json

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest import agibot
from oxe_pipeline.ingest.agibot_commands import commands_of_every_row
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.images import decode
from samples.agibot_layout import SUB_TASKS, write_episode
from samples.drawn import drawn_frames
from schemas.slots import ACTION_GROUPS
from schemas.spec import load_spec

h5py = pytest.importorskip("h5py")
pytest.importorskip("av")

KEY, STEPS = "327/648642", 10
CAMERAS = ("head_color", "head_center_fisheye_color", "hand_right_color", "hand_left_color")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("agibot")
    write_episode(root, steps=STEPS)
    return root


@pytest.fixture
def raw(original, tmp_path):
    """A copy that a test may change."""
    import shutil

    shutil.copytree(original, tmp_path / "raw")
    return tmp_path / "raw"


def read(root, key=KEY, **options):
    return agibot.read_episode(key, root=root, cameras=CAMERAS, **options)


def change(root, **arrays):
    """Replaces arrays of the HDF5 file, "/" written "__"."""
    with h5py.File(root / "proprio_stats" / "327" / "648642" / "proprio_stats.h5", "a") as file:
        for name, values in arrays.items():
            path = name.replace("__", "/")
            if path in file:
                del file[path]
            if values is not None:
                file[path] = values


def slots(vector, name):
    return vector[:, list(ACTION_GROUPS[name].indices)]


def test_commands_stand_where_they_were_sent_and_the_next_state_elsewhere(original):
    source = read(original)
    episode = apply_spec(source, load_spec("agibot_world"))
    state = source.steps["state/joint/position"]
    with h5py.File(original / "proprio_stats" / "327" / "648642" / "proprio_stats.h5") as file:
        sent, rows = file["action/joint/position"][()], file["action/joint/index"][()]
    expected = np.concatenate([state[1:], state[-1:]])
    expected[rows] = sent
    found = np.concatenate([slots(episode.action, f"{arm}.joint_position") for arm in ("arm0", "arm1")], axis=1)
    assert len(rows) == STEPS - 3 and np.allclose(found, expected, atol=1e-6)


def test_grippers_are_opened_by_one_and_a_base_without_commands_stands(original):
    episode = apply_spec(read(original), load_spec("agibot_world"))
    assert np.allclose(slots(episode.action, "arm0.gripper")[:, 0], np.linspace(1, 0, STEPS), atol=1e-6)
    assert np.allclose(slots(episode.action, "arm1.gripper")[:, 0], np.linspace(0, 1, STEPS), atol=1e-6)
    base = ACTION_GROUPS["base_velocity"].indices
    assert (
        episode.action_mask[list(base)].tolist() == [True, False, True]
        and not slots(episode.action, "base_velocity").any()
    )


def test_videos_are_the_cameras_and_an_absent_fisheye_is_no_fault(original):
    episode = apply_spec(read(original), load_spec("agibot_world"))
    assert sorted(episode.images) == ["primary", "wrist", "wrist_left"]
    for camera, view in (("primary", 0), ("wrist_left", 1), ("wrist", 2)):
        frame = drawn_frames(STEPS, height=48, width=64, view=view)[7]
        assert np.abs(decode(episode.images[camera][7]).astype(int) - frame).mean() < 12, camera
    assert episode.instruction == "pack the bag at the counter"


def test_sub_tasks_are_episodes_with_their_rows_and_sentence(original):
    keys, _ = agibot.find_episodes(original, spans=True)
    assert keys == [f"{KEY}#0", f"{KEY}#1"]
    whole = read(original)
    for key, rows, sentence in zip(keys, (slice(0, 5), slice(5, 10)), SUB_TASKS, strict=True):
        source = read(original, key, spans=True)
        assert np.array_equal(source.steps["state/joint/position"], whole.steps["state/joint/position"][rows])
        found = np.stack(list(source.steps["videos/head_color"]))
        assert np.array_equal(found, np.stack(list(whole.steps["videos/head_color"]))[rows])
        episode = apply_spec(source, load_spec("agibot_world_skills"))
        assert episode.instruction == sentence[0].lower() + sentence[1:]


def test_sub_tasks_of_one_recording_stay_on_one_side(original):
    splits = {
        apply_spec(read(original, f"{KEY}#{k}", spans=True), load_spec("agibot_world_skills")).split for k in (0, 1)
    }
    assert len(splits) == 1


def test_listed_episodes_without_data_are_counted_and_data_without_a_list_is_named(raw):
    listed = raw / "task_info" / "task_327.json"
    entries = json.loads(listed.read_text())
    listed.write_text(json.dumps([*entries, entries[0] | {"episode_id": 7}]))
    assert agibot.find_episodes(raw) == ([KEY], 1)
    listed.write_text(json.dumps([entries[0] | {"episode_id": 7}]))
    with pytest.raises(DataError, match=r"327/648642: task_327\.json: lists no such episode"):
        read(raw)
    listed.unlink()
    assert agibot.find_episodes(raw, spans=True) == ([KEY], 0)
    with pytest.raises(DataError, match=r"task_327\.json: no such file"):
        read(raw, spans=True)


def test_more_commands_than_states_is_a_corrupt_episode(raw):
    change(raw, action__joint__position=np.zeros((STEPS + 1, 14)))
    with pytest.raises(DataError, match="action/joint/position: 11 commands for 10 states: corrupt"):
        read(raw)


@pytest.mark.parametrize("index", [[0, 1, 99], [2, 1, 0], [1, 1, 2], [0.5, 1, 2], [0, 1]])
def test_an_index_that_does_not_fit_is_a_data_error(raw, index):
    change(raw, action__joint__position=np.zeros((3, 14)), action__joint__index=np.array(index))
    with pytest.raises(DataError, match="action/joint/position: "):
        read(raw)


def test_a_hand_with_fingers_is_not_taken_for_a_gripper(raw):
    write_episode(raw, episode=5, steps=4, fingers=True)
    with pytest.raises(DataError, match=r"action/effector/position: no such key in the source.* action/hand/position"):
        apply_spec(read(raw, "327/5"), load_spec("agibot_world"))


def test_a_file_without_poses_needs_the_variant(raw):
    change(raw, state__end__position=np.zeros(0), state__end__orientation=np.zeros(0))
    with pytest.raises(DataError, match="state/end/position: no such key"):
        apply_spec(read(raw), load_spec("agibot_world"))
    assert len(apply_spec(read(raw), load_spec("agibot_world_as_joints"))) == STEPS


def test_a_video_of_another_length_is_named(raw):
    change(
        raw,
        **{f"state__{name}__position": np.zeros((STEPS - 2, width)) for name, width in (("joint", 14), ("head", 2))},
    )
    change(raw, state__effector__position=None, state__end__position=None, state__end__orientation=None)
    change(raw, action__effector__position=np.zeros((0, 2)), action__joint__position=np.zeros((0, 14)))
    with pytest.raises(DataError, match=r"videos/head_color: 10 steps, but state/head/position has 8"):
        apply_spec(read(raw), load_spec("agibot_world"))


def test_a_damaged_video_and_a_missing_one(raw):
    path = raw / "observations" / "327" / "648642" / "videos" / "head_color.mp4"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="327/648642: videos/head_color"):
        read(raw)
    path.unlink()
    with pytest.raises(DataError, match="videos/head_color: no such key"):
        apply_spec(read(raw), load_spec("agibot_world"))


@pytest.mark.parametrize("key", ["327/../../x", "a/b", "327/1#x", "327", "1/" + "9" * 5000])
def test_keys_that_are_none_do_not_become_paths(original, key):
    with pytest.raises(DataError, match="is no <task>/<episode>"):
        read(original, key)


def test_the_index_of_the_end_effectors_may_be_that_of_the_joints():
    found = {
        "state/end/position": np.arange(8.0).reshape(4, 2),
        "action/end/position": np.full((2, 2), -1.0),
        "action/end/index": np.zeros(0, np.int64),
        "action/joint/index": np.array([0, 2]),
        "action/effector/position": np.array([[0.2], [0.8]]),
        "action/effector/index": np.array([1, 3]),
        "action/head/position": np.zeros((1, 2)),
    }
    commands = commands_of_every_row(found, 4, "e")
    assert commands["action/end/position"].tolist() == [[-1, -1], [4, 5], [-1, -1], [6, 7]]
    assert commands["action/effector/position"].ravel().tolist() == [0.2, 0.2, 0.2, 0.8]
    assert set(commands) == {"action/end/position", "action/effector/position"}
