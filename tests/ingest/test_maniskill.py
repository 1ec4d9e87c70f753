"""ManiSkill files of both generations through reader and specs, and a real file where there is one."""

import json

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.images import decode
from oxe_pipeline.ingest.maniskill import find_episodes, read_episode
from samples.drawn import drawn_frames
from samples.maniskill_layout import write_file
from schemas.slots import ACTION_GROUPS, STATE_GROUPS
from schemas.spec import load_spec

h5py = pytest.importorskip("h5py")

FILE = "PickCube-v1/motionplanning/trajectory.rgb.pd_ee_delta_pose.h5"
STEPS = 6


def read(root, **options):
    write_file(root / FILE, steps=STEPS, **options)
    return read_episode(f"{FILE}/traj_0", root=root)


def slots(vector, groups, name):
    return vector[:, list(groups[f"arm0.{name}"].indices)].astype(np.float64)


def about(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def exponential(vector):
    """Rodrigues' formula, written out."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def quaternion_matrix(w, x, y, z):
    vector = np.array([x, y, z])
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return (w * w - vector @ vector) * np.eye(3) + 2 * np.outer(vector, vector) + 2 * w * cross


def test_episodes_are_ordered_by_number_and_holes_are_kept(tmp_path):
    write_file(tmp_path / "b.h5", ids=[10, 2])
    write_file(tmp_path / "a.h5", ids=[7])
    (tmp_path / "c.h5").write_bytes(b"nothing")
    assert list(find_episodes(tmp_path)) == ["a.h5/traj_7", "b.h5/traj_2", "b.h5/traj_10", "c.h5"]


@pytest.mark.parametrize("version, cameras", [(3, "sensor_data"), (2, "image")])
def test_the_observation_after_the_last_action_is_left_out(tmp_path, version, cameras):
    source = read(tmp_path, version=version)
    assert {len(column) for column in source.steps.values()} == {STEPS}
    frames = drawn_frames(STEPS + 1, height=16, width=16)
    found = np.stack(list(source.steps[f"obs/{cameras}/base_camera/rgb"]))
    assert np.array_equal(found, frames[:-1])
    with h5py.File(tmp_path / FILE) as file:
        assert np.array_equal(source.steps["obs/agent/qpos"], file["traj_0/obs/agent/qpos"][:-1])
        assert np.array_equal(source.steps["actions/pd_ee_delta_pose"], file["traj_0/actions"])


def test_maniskill3_deltas_in_metres_and_as_the_controller_turns(tmp_path):
    source = read(tmp_path)
    episode = apply_spec(source, load_spec("maniskill3_ee_delta"))
    action = source.steps["actions/pd_ee_delta_pose"].astype(np.float64)
    assert np.allclose(slots(episode.action, ACTION_GROUPS, "eef_position_delta"), action[:, :3] * 0.1)
    assert np.allclose(slots(episode.action, ACTION_GROUPS, "gripper")[:, 0], (action[:, 6] + 1) / 2)
    turned = load_spec("maniskill3_ee_delta_as_positive_rotation")
    for spec, sign in ((None, -0.1), (turned, 0.1)):
        found = slots((apply_spec(source, spec) if spec else episode).action, ACTION_GROUPS, "eef_rotation_delta")
        for vector, (x, y, z) in zip(found, sign * action[:, 3:6], strict=True):
            assert np.allclose(exponential(vector), about(0, x) @ about(1, y) @ about(2, z), atol=1e-6)


def test_maniskill2_deltas_are_turned_from_the_tool_into_the_base(tmp_path):
    source = read(tmp_path, version=2)
    episode = apply_spec(source, load_spec("maniskill2_ee_delta"))
    action = source.steps["actions/pd_ee_delta_pose"].astype(np.float64)
    position = slots(episode.action, ACTION_GROUPS, "eef_position_delta")
    rotation = slots(episode.action, ACTION_GROUPS, "eef_rotation_delta")
    for t, quaternion in enumerate(source.steps["obs/extra/tcp_pose"][:, 3:].astype(np.float64)):
        present = quaternion_matrix(*quaternion)
        assert np.allclose(position[t], present @ action[t, :3] * 0.1, atol=1e-6)
        target = present @ exponential(action[t, 3:6] * 0.1)
        assert np.allclose(exponential(rotation[t]) @ present, target, atol=1e-6)
        six = slots(episode.state, STATE_GROUPS, "eef_rotation_6d")[t]
        assert np.allclose(six, present[:, :2].T.ravel(), atol=1e-6)


def test_joint_targets_and_joint_changes_both_end_as_targets(tmp_path):
    for mode, spec in (("pd_joint_pos", "maniskill3_joint"), ("pd_joint_delta_pos", "maniskill3_joint_as_delta")):
        source = read(tmp_path, mode=mode)
        action = source.steps[f"actions/{mode}"].astype(np.float64)[:, :7]
        joints = source.steps["obs/agent/qpos"].astype(np.float64)[:, :7]
        target = action if mode == "pd_joint_pos" else joints + 0.1 * action
        found = slots(apply_spec(source, load_spec(spec)).action, ACTION_GROUPS, "joint_position")
        assert np.allclose(found, target, atol=1e-6)


def test_label_success_and_images_come_through(tmp_path):
    source = read(tmp_path, ids=[0, 1])
    episode = apply_spec(source, load_spec("maniskill3_ee_delta"))
    assert episode.instruction == "pick up the cube and hold it at the goal position"
    failed = apply_spec(read_episode(f"{FILE}/traj_1", root=tmp_path), load_spec("maniskill3_ee_delta"))
    assert (episode.success, failed.success) == (1, 0)
    assert sorted(episode.images) == ["primary", "wrist"]
    assert (
        np.abs(decode(episode.images["wrist"][2]).astype(int) - drawn_frames(7, height=16, width=16, view=1)[2]).mean()
        < 4
    )


def test_a_task_without_a_sentence_and_an_unknown_outcome(tmp_path):
    write_file(tmp_path / "x.h5", task="FMBAssembly1-v0")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["traj_0/success"]
    said = json.loads((tmp_path / "x.json").read_text())
    del said["episodes"][0]["success"]
    (tmp_path / "x.json").write_text(json.dumps(said))
    episode = apply_spec(read_episode("x.h5/traj_0", root=tmp_path), load_spec("maniskill3_ee_delta"))
    assert (episode.instruction, episode.success) == ("", -1)


def test_actions_of_another_controller_are_refused_by_name(tmp_path):
    source = read(tmp_path, mode="pd_joint_pos")
    with pytest.raises(DataError, match=r"actions/pd_ee_delta_pose: no such key in the source; did you mean actions/"):
        apply_spec(source, load_spec("maniskill3_ee_delta"))


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, r"x\.json: no such file"),
        ("{", r"x\.json: not what it should be"),
        ("[" * 100_000, r"x\.json: not what it should be"),
        ("[]", "no env_info"),
        ('{"env_info": {}, "episodes": []}', "holds 0 episodes of id 0"),
        ('{"env_info": {}, "episodes": [{"episode_id": 0}]}', "names no control mode"),
    ],
)
def test_a_json_file_that_does_not_say_it_is_a_data_error(tmp_path, content, reason):
    write_file(tmp_path / "x.h5")
    (tmp_path / "x.json").unlink()
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=reason):
        read_episode("x.h5/traj_0", root=tmp_path)


def test_an_outcome_that_is_no_number_is_not_taken_for_one(tmp_path):
    write_file(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["traj_0/success"]
        file.create_dataset("traj_0/success", (6,), h5py.vlen_dtype(np.uint8))
    with pytest.raises(DataError, match="success"):
        apply_spec(read_episode("x.h5/traj_0", root=tmp_path), load_spec("maniskill3_ee_delta"))


def test_files_that_are_none_of_ours_name_themselves(tmp_path):
    (tmp_path / "c.h5").write_bytes(b"nothing")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = np.zeros(3)
    for key, reason in (("c.h5", "not a whole HDF5 file"), ("d.h5", r"holds no group traj_<id>")):
        with pytest.raises(DataError, match=reason):
            read_episode(key, root=tmp_path)


def test_a_real_demonstration_has_812_actions_and_as_many_states(real_data):
    [key] = find_episodes(real_data / "maniskill_h5")
    source = read_episode(key, root=real_data / "maniskill_h5")
    assert source.steps["actions/pd_joint_pos"].shape == (812, 8)
    assert source.steps["env_states"].shape == (812, 135)
    assert source.metadata["env_id"] == "FMBAssembly1-v0" and source.metadata["success"] is False
    spec = load_spec("maniskill3_joint").model_copy(update={"cameras": {}, "state": [], "state_raw": []})
    episode = apply_spec(source, spec)
    assert len(episode) == 812 and episode.success == 0
    joints = slots(episode.action, ACTION_GROUPS, "joint_position")
    assert np.abs(joints).max() < 3 and np.abs(np.diff(joints, axis=0)).max() < 0.2  # radians, moving smoothly
