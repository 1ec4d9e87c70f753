"""The later single arms: rows 41 to 49 and 54 to 58 of the table of Octo and OpenVLA."""

import numpy as np

from tests.ingest.published_case import (
    GRIPPER,
    JOINTS,
    ORIENTATION,
    PLACE,
    POSITION,
    TURN,
    Cases,
    Expected,
    eef,
    joint_action,
    pos_euler,
    pos_quat,
)
from tests.ingest.published_rules import (
    beside,
    clipped_and_inverted,
    euler_of,
    from_quaternions,
    from_roll_pitch_yaw,
    inverted,
    numbers,
    rotation_vectors,
    scalar_last,
    six_d,
    turn,
    unit_quaternions,
    zeros,
)

CASES = Cases()
PANDA_WIDTH_M = 0.08
SIX_JOINTS = "joint_position[0:6]"


def gentle_quaternions(rng, steps: int) -> np.ndarray:
    """Scalar first, some 20 degrees from the identity, so that neighbours are less than half a turn apart."""
    values = np.concatenate([np.ones((steps, 1)), rng.normal(0, 0.1, (steps, 3))], axis=1)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def gentle_poses(rng, steps: int) -> np.ndarray:
    """[T, 4, 4] homogeneous matrices."""
    poses = np.tile(np.eye(4), (steps, 1, 1))
    poses[:, :3, :3] = from_roll_pitch_yaw(rng.normal(0, 0.2, (steps, 3)))
    poses[:, :3, 3] = rng.normal(0, 0.3, (steps, 3))
    return poses


def opening(widths, open_width: float = PANDA_WIDTH_M) -> np.ndarray:
    return np.clip(numbers(widths) / open_width, 0, 1)


def held_next(values) -> np.ndarray:
    """What the next step has; the last one its own."""
    return np.concatenate([values[1:], values[-1:]])


def moved(positions, matrices) -> dict[str, np.ndarray]:
    """The achieved motion, one row shorter."""
    return {POSITION: np.diff(numbers(positions), axis=0), TURN: turn(matrices[1:], matrices[:-1])}


def twice(own: Expected, published: Expected) -> dict[str, Expected]:
    return {"": own, "octo": published, "openvla": published}


def _robocook_values(rng, steps):
    return {"observation/state": beside(rng.normal(0, 0.3, (steps, 6)), rng.uniform(0, 0.09, (steps, 1)))}


@CASES.add("stanford_robocook_converted_externally_to_rlds", filled=_robocook_values)
def _robocook(s):
    state = numbers(s["observation/state"])
    matrices, width = from_roll_pitch_yaw(state[:, 3:6]), opening(state[:, 6])
    own = Expected(
        action={**moved(state[:, :3], matrices), GRIPPER: width[1:]},
        state={PLACE: state[:-1, :3], ORIENTATION: six_d(matrices)[:-1], GRIPPER: width[:-1]},
        kept=slice(None, -1),
    )
    return twice(own, Expected(action=eef(s["action"]), state=pos_euler(state)))


@CASES.add("imperialcollege_sawyer_wrist_cam")
def _imperial(s):
    action = numbers(s["action"])
    turned = rotation_vectors(from_roll_pitch_yaw(action[:, 3:6]))
    published = eef(action[:, :7])
    return {
        "": Expected(action={POSITION: action[:, :3], TURN: turned, GRIPPER: action[:, 6]}, state={}),
        "octo": Expected(action=published, state={}),
        "openvla": Expected(action=published, state={GRIPPER: s["observation/state"]}),
    }


def _quaternion_action(rng, steps):
    return {"action": beside(rng.normal(size=(steps, 3)), gentle_quaternions(rng, steps), rng.integers(0, 2, steps))}


@CASES.add("iamlab_cmu_pickup_insert_converted_externally_to_rlds", filled=_quaternion_action)
def _iamlab(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    matrices = from_quaternions(scalar_last(action[:, 3:7]))
    own = Expected(
        action={**moved(action[:, :3], matrices), GRIPPER: action[1:, 7]},
        state={JOINTS: state[1:, :7], GRIPPER: state[1:, 7]},
        kept=slice(1, None),
    )
    misread = euler_of(from_quaternions(action[:, 3:7]))
    published = eef(beside(action[:, :3], misread, action[:, 7]))
    return twice(own, Expected(action=published, state={JOINTS: state[:, :7], GRIPPER: state[:, 7]}))


@CASES.add("uiuc_d3field", filled=lambda rng, steps: {"observation/state": gentle_poses(rng, steps)})
def _d3field(s):
    poses, displaced = np.asarray(s["observation/state"], np.float64), s["action"]
    matrices, places = poses[:, :3, :3], poses[:, :3, 3]
    own = Expected(
        action=moved(places, matrices),
        state={PLACE: places[:-1], ORIENTATION: six_d(matrices)[:-1]},
        kept=slice(None, -1),
    )
    return twice(own, Expected(action=eef(beside(displaced, zeros(displaced, 4))), state={}))


def _mutex_values(rng, steps):
    matrix = gentle_poses(rng, steps).transpose(0, 2, 1).reshape(steps, 16)  # column by column
    state = beside(rng.normal(size=(steps, 7)), rng.uniform(0, 0.09, steps), matrix)
    return {"observation/state": state, "action": beside(rng.normal(size=(steps, 6)), rng.choice([-1, 1], steps))}


@CASES.add("utaustin_mutex", filled=_mutex_values)
def _mutex(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    poses = state[:, 8:].reshape(-1, 4, 4).transpose(0, 2, 1)
    commanded = eef(beside(action[:, :6], clipped_and_inverted(action[:, 6])))
    joints = {JOINTS: state[:, :7]}
    own = {**joints, GRIPPER: opening(state[:, 7]), ORIENTATION: six_d(poses[:, :3, :3]), PLACE: poses[:, :3, 3]}
    published = Expected(action=commanded, state={**joints, GRIPPER: state[:, 7]})
    return twice(Expected(action=commanded, state=own), published)


def _fanuc_values(rng, steps):
    pose = beside(rng.normal(size=(steps, 3)), unit_quaternions(rng, steps))
    state = beside(rng.normal(size=(steps, 6)), np.arange(steps) >= 3, rng.normal(size=(steps, 6)))
    return {"observation/end_effector_state": pose, "observation/state": state}


@CASES.add("berkeley_fanuc_manipulation", filled=_fanuc_values)
def _fanuc(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    pose, is_open = numbers(s["observation/end_effector_state"]), inverted(state[:, 6])
    turned = rotation_vectors(from_roll_pitch_yaw(action[:, 3:6]))
    own = Expected(
        action={POSITION: action[:, :3], TURN: turned, GRIPPER: held_next(is_open)},
        state={
            PLACE: pose[:, :3],
            ORIENTATION: six_d(from_quaternions(pose[:, 3:])),
            GRIPPER: is_open,
            SIX_JOINTS: state[:, :6],
        },
    )
    published = Expected(action=eef(beside(action, is_open)), state={SIX_JOINTS: state[:, :6], GRIPPER: state[:, 6]})
    return twice(own, published)


@CASES.add("cmu_playing_with_food", filled=_quaternion_action)
def _playing_with_food(s):
    action = numbers(s["action"])
    misread = euler_of(from_quaternions(action[:, 3:7]))
    forces = pos_euler(s["observation/state"])
    published = Expected(action=eef(beside(action[:, :3], misread, action[:, 7])), state=forces)
    return twice(Expected(action={GRIPPER: action[:, 7]}, state={}), published)


def _play_fusion_values(rng, steps):
    turns = scalar_last(gentle_quaternions(rng, steps))
    return {"action": beside(rng.normal(size=(steps, 3)), turns, rng.integers(0, 2, (steps, 2)))}


@CASES.add("cmu_play_fusion", filled=_play_fusion_values)
def _play_fusion(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    turned = rotation_vectors(from_quaternions(action[:, 3:7]))
    observed = {JOINTS: state[:, :7], GRIPPER: state[:, 7]}
    own = Expected(action={POSITION: action[:, :3], TURN: turned, GRIPPER: action[:, 7]}, state=observed)
    return twice(own, Expected(action=eef(beside(action[:, :3], action[:, -4:])), state=observed))


@CASES.add("cmu_stretch")
def _stretch(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    in_plane = {"arm0.eef_position_delta.x": action[:, 0], "arm0.eef_position_delta.z": action[:, 2]}
    own = Expected(action={**in_plane, GRIPPER: action[:, 6]}, state={PLACE: state[:, :3], GRIPPER: state[:, 3]})
    published = pos_euler(beside(state[:, :3], zeros(state), state[:, 3]))
    return twice(own, Expected(action=eef(action[:, :7]), state=published))


def _fmb_values(rng, steps):
    pose = beside(rng.normal(size=(steps, 3)), unit_quaternions(rng, steps))
    return {"observation/eef_pose": pose, "observation/state_gripper_pose": np.arange(steps) >= 3}


@CASES.add("fmb_dataset", filled=_fmb_values)
def _fmb(s):
    action, pose, closed = numbers(s["action"]), numbers(s["observation/eef_pose"]), s["observation/state_gripper_pose"]
    own = Expected(
        action={POSITION: action[:, :3], TURN: action[:, 3:6], GRIPPER: clipped_and_inverted(action[:, 6])},
        state={
            PLACE: pose[:, :3],
            ORIENTATION: six_d(from_quaternions(pose[:, 3:])),
            GRIPPER: clipped_and_inverted(closed),
            JOINTS: s["observation/joint_pos"],
        },
    )
    return twice(own, Expected(action=eef(action), state=pos_quat(beside(pose, closed))))


@CASES.add("dobbe", filled=lambda rng, steps: {"observation/quat": scalar_last(gentle_quaternions(rng, steps))})
def _dobbe(s):
    place, matrices = numbers(s["observation/xyz"]), from_quaternions(s["observation/quat"])
    own = Expected(
        action={**moved(place, matrices), GRIPPER: numbers(s["action"])[:-1, 6]},
        state={PLACE: place[:-1], ORIENTATION: six_d(matrices)[:-1], GRIPPER: s["observation/gripper"][:-1]},
        kept=slice(None, -1),
    )
    return twice(own, Expected(action=eef(s["action"]), state=pos_euler(s["observation/state"])))


@CASES.add("roboset")
def _roboset(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    commanded = joint_action(beside(action[:, :7], clipped_and_inverted(action[:, 7])))
    own = Expected(action=commanded, state={JOINTS: state[:, :7], GRIPPER: clipped_and_inverted(state[:, 7])})
    return twice(own, Expected(action=commanded, state={JOINTS: state[:, :7], GRIPPER: state[:, 7]}))


@CASES.add("rh20t")
def _rh20t(s):
    target, pose = numbers(s["action/tcp_base"]), numbers(s["observation/tcp_base"])
    matrices, commanded = from_roll_pitch_yaw(pose[:, 3:]), s["action/gripper"]
    turned = turn(from_roll_pitch_yaw(target[:, 3:]), matrices)
    own = Expected(
        action={POSITION: target[:, :3] - pose[:, :3], TURN: turned, GRIPPER: commanded},
        state={PLACE: pose[:, :3], ORIENTATION: six_d(matrices)},
    )
    observed = pos_euler(beside(pose, s["observation/gripper_width"]))
    return twice(own, Expected(action=eef(beside(target, commanded)), state=observed))


def _servo_values(rng, steps):
    return {"action": beside(rng.normal(0, 0.3, (steps, 6)), rng.integers(0, 256, steps))}


@CASES.add("mujoco_manip", filled=_servo_values)
def _mujoco_manip(s):
    action = numbers(s["action"])
    is_open, turned = 1 - action[:, 6:] / 255, rotation_vectors(from_roll_pitch_yaw(action[:, 3:6]))
    return {
        "": Expected(action={POSITION: action[:, :3], TURN: turned, GRIPPER: is_open}, state={}),
        "octo": Expected(action=eef(beside(action[:, :6], is_open)), state={}),
    }
