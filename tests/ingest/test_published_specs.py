"""Each shipped spec on an episode of exactly the published structure, against a computation written out here."""

import numpy as np
import pytest
import simplejpeg

from oxe_pipeline.ingest.apply_spec import apply_spec
from schemas.slots import ACTION_GROUPS, STATE_GROUPS
from schemas.spec import load_spec, spec_names
from tests.ingest import published

BUILDERS = {
    "bridge_dataset": published.make_bridge,
    "fractal20220817_data": published.make_fractal,
    "language_table": published.make_language_table,
    "taco_play": published.make_taco_play,
    "berkeley_autolab_ur5": published.make_ur5,
    "droid": published.make_droid,
}


def action(episode, group):
    return episode.action[:, list(ACTION_GROUPS[f"arm0.{group}"].indices)]


def state(episode, group):
    return episode.state[:, list(STATE_GROUPS[f"arm0.{group}"].indices)]


def euler_matrices(angles) -> np.ndarray:
    """Roll, pitch, yaw about fixed axes: Rz·Ry·Rx, multiplied out."""
    matrices = []
    for roll, pitch, yaw in np.asarray(angles, np.float64):
        (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
        x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        matrices.append(z @ y @ x)
    return np.stack(matrices)


def quaternion_matrices(xyzw) -> np.ndarray:
    matrices = []
    for x, y, z, w in np.asarray(xyzw, np.float64):
        vector = np.array([x, y, z])
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        matrices.append((w * w - vector @ vector) * np.eye(3) + 2 * np.outer(vector, vector) + 2 * w * cross)
    return np.stack(matrices)


def rotation_vectors(matrices) -> np.ndarray:
    vectors = []
    for matrix in matrices:
        angle = np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))
        skew = (matrix - matrix.T) / (2 * np.sin(angle)) * angle
        vectors.append([skew[2, 1], skew[0, 2], skew[1, 0]])
    return np.array(vectors)


def six_d(matrices) -> np.ndarray:
    return np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], axis=1)


def close(got, expected):
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_every_spec_of_published_rlds_is_tested_here():
    assert set(BUILDERS) == {name for name in spec_names() if load_spec(name).source_kind == "rlds"}


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_masked_slots_are_those_the_spec_does_not_fill_and_images_keep_their_bytes(name):
    source, spec = BUILDERS[name](), load_spec(name)
    episode = apply_spec(source, spec)
    assert np.flatnonzero(episode.action_mask).tolist() == spec.action_indices()
    assert np.flatnonzero(episode.state_mask).tolist() == spec.state_indices()
    first = published.STEPS - len(episode) - any(op.op in ("drop_last", "action_from_state") for op in spec.episode_ops)
    for camera, frames in episode.images.items():
        if spec.cameras[camera].colour == "rgb":
            stored = source.steps[spec.cameras[camera].source]
            assert all(frames[t] is stored[t + first] for t in range(len(episode)))


def test_fractal_lays_out_the_dictionary_and_integrates_the_gripper():
    source = published.make_fractal()
    episode = apply_spec(source, load_spec("fractal20220817_data"))
    close(action(episode, "eef_position_delta"), source.steps["action/world_vector"])
    turns = rotation_vectors(euler_matrices(source.steps["action/rotation_delta"]))
    close(action(episode, "eef_rotation_delta"), turns)
    np.testing.assert_array_equal(action(episode, "gripper")[:, 0], [1, 1, 0, 0, 0, 1, 1, 1])
    pose = source.steps["observation/base_pose_tool_reached"]
    close(state(episode, "eef_position"), pose[:, :3])
    close(state(episode, "eef_rotation_6d"), six_d(quaternion_matrices(pose[:, 3:])))
    close(state(episode, "gripper"), 1 - source.steps["observation/gripper_closed"])
    assert episode.action_raw.shape == (8, 13) and episode.control_hz == 3
    assert (episode.instruction, episode.success) == ("pick coke can", 1)


def test_fractal_success_is_unknown_where_nobody_rated_the_episode():
    source = published.make_fractal()
    source.metadata["aspects/has_aspects"] = np.bool_(False)
    assert apply_spec(source, load_spec("fractal20220817_data")).success == -1


def test_language_table_masks_what_a_planar_pusher_lacks_and_drops_its_last_step():
    source = published.make_language_table()
    episode = apply_spec(source, load_spec("language_table"))
    assert len(episode) == published.STEPS - 1
    assert np.flatnonzero(episode.action_mask).tolist() == [0, 1]
    assert np.flatnonzero(episode.state_mask).tolist() == [0, 1]
    close(episode.action[:, :2], source.steps["action"][:-1])
    close(episode.state[:, :2], source.steps["observation/effector_translation"][:-1])
    assert episode.instruction == "push the blue cube to the café"


def test_taco_is_scaled_to_metres_and_takes_the_gripper_from_index_six():
    source = published.make_taco_play()
    episode = apply_spec(source, load_spec("taco_play"))
    relative, observed = source.steps["action/rel_actions_world"], source.steps["observation/robot_obs"]
    close(action(episode, "eef_position_delta"), relative[:, :3] * 0.02)
    close(action(episode, "eef_rotation_delta"), rotation_vectors(euler_matrices(relative[:, 3:6] * 0.05)))
    np.testing.assert_array_equal(action(episode, "gripper")[:, 0], [1, 1, 1, 1, 0, 0, 0, 0])
    close(state(episode, "gripper")[:, 0], observed[:, 6] / 0.08)
    close(state(episode, "joint_position"), observed[:, 7:14])
    close(state(episode, "eef_rotation_6d"), six_d(euler_matrices(observed[:, 3:6])))
    assert episode.split == "test" and set(episode.images) == {"primary", "wrist"}
    assert episode.instruction == "open the drawer" and len(episode.alternatives) == 1


def test_ur5_reads_a_scalar_gripper_and_six_joints_and_swaps_the_wrist_channels():
    source = published.make_ur5()
    episode = apply_spec(source, load_spec("berkeley_autolab_ur5"))
    observed = source.steps["observation/robot_state"]
    np.testing.assert_array_equal(action(episode, "gripper")[:, 0], [1, 1, 0, 0, 0, 0, 1, 1])
    close(state(episode, "eef_position"), observed[:, 6:9])
    close(state(episode, "eef_rotation_6d"), six_d(quaternion_matrices(observed[:, 9:13])))
    close(state(episode, "gripper")[:, 0], 1 - observed[:, 13])
    close(state(episode, "joint_position"), np.pad(observed[:, :6], ((0, 0), (0, 1))))
    assert episode.state_mask[STATE_GROUPS["arm0.joint_position"].indices].tolist() == [True] * 6 + [False]
    stored = simplejpeg.decode_jpeg(source.steps["observation/hand_image"][3])
    put_right = simplejpeg.decode_jpeg(episode.images["wrist"][3])
    assert np.abs(put_right.astype(int) - stored[..., ::-1]).mean() < 3
    assert np.abs(put_right.astype(int) - stored).mean() > 10


def test_droid_is_scaled_from_normalised_velocity_and_its_gripper_inverted():
    source = published.make_droid()
    episode = apply_spec(source, load_spec("droid"))
    velocity = source.steps["action_dict/cartesian_velocity"]
    close(action(episode, "eef_position_delta"), velocity[:, :3] * 0.075)
    close(action(episode, "eef_rotation_delta"), rotation_vectors(euler_matrices(velocity[:, 3:] * 0.15)))
    close(action(episode, "gripper"), 1 - source.steps["action_dict/gripper_position"])
    close(state(episode, "gripper"), 1 - source.steps["observation/gripper_position"])
    close(
        state(episode, "eef_rotation_6d"), six_d(euler_matrices(source.steps["observation/cartesian_position"][:, 3:]))
    )
    close(episode.action_raw[:, 13:20], source.steps["action_dict/joint_position"])
    assert episode.success == 1 and set(episode.images) == {"primary", "secondary", "wrist"}
    assert episode.instruction == "put the marker in the cup"
    assert episode.alternatives == ("move the marker into the mug",)


def test_droid_failures_are_known_from_their_path():
    failed = published.make_droid(path="r2d2/AUTOLab/failure/2023-07-07/x/trajectory.h5")
    assert apply_spec(failed, load_spec("droid")).success == 0


def test_bridge_action_is_the_achieved_motion_without_a_wrap_and_drops_both_ends():
    source = published.make_bridge()
    episode = apply_spec(source, load_spec("bridge_dataset"))
    observed = source.steps["observation/state"].astype(np.float64)
    assert len(episode) == published.STEPS - 2
    close(action(episode, "eef_position_delta"), np.diff(observed[:, :3], axis=0)[1:])
    matrices = euler_matrices(observed[:, 3:6])
    turns = rotation_vectors(matrices[1:] @ matrices[:-1].transpose(0, 2, 1))
    close(action(episode, "eef_rotation_delta"), turns[1:])
    assert set(episode.images) == {"primary"} and episode.split == "val"
    close(episode.action_raw, source.steps["action"][1:-1])
    close(state(episode, "gripper")[:, 0], np.clip(observed[1:-1, 6], 0, 1))
