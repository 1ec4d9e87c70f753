"""Rows 1 to 13 of the table of Octo and OpenVLA: the data sets whose actions are mostly dictionaries."""

import numpy as np
import simplejpeg

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
    pos_euler,
    pos_quat,
)
from tests.ingest.published_rules import (
    beside,
    binarized,
    clipped,
    clipped_and_inverted,
    from_quaternions,
    from_roll_pitch_yaw,
    integrated,
    numbers,
    rotation_vectors,
    six_d,
    turn,
    unit_quaternions,
    zeros,
)

CASES = Cases()
COMMANDS = np.array([0, 0, 1, 0, 0, -1, 0, 0], np.float32)[:, None]
"""Close at step 2, open at step 5: so it is open before step 2."""
CLOSEDNESS = np.array([-1, -1, 0.2, 1, 1, 0.5, -1, 0], np.float32)[:, None]


def dict_eef(s, gripper) -> np.ndarray:
    return beside(s["action/world_vector"], s["action/rotation_delta"], gripper)


def commands(key="action/gripper_closedness_action", values=COMMANDS):
    return lambda rng, steps: {key: values}


def _pose(rng, steps):
    return np.concatenate([rng.normal(size=(steps, 3)), unit_quaternions(rng, steps)], axis=1)


@CASES.add(
    "fractal20220817_data",
    filled=lambda rng, steps: {
        "action/gripper_closedness_action": COMMANDS,
        "observation/base_pose_tool_reached": _pose(rng, steps),
        "observation/gripper_closed": rng.uniform(-0.2, 1.2, (steps, 1)),
    },
)
def _fractal(s):
    return _rt1(s, s["observation/base_pose_tool_reached"])


@CASES.add(
    "kuka",
    filled=lambda rng, steps: {
        "action/gripper_closedness_action": COMMANDS,
        "observation/clip_function_input/base_pose_tool_reached": _pose(rng, steps),
        "observation/gripper_closed": rng.uniform(-0.2, 1.2, (steps, 1)),
    },
)
def _kuka(s):
    return _rt1(s, s["observation/clip_function_input/base_pose_tool_reached"])


def _rt1(s, pose):
    gripper, closed = integrated(s["action/gripper_closedness_action"]), s["observation/gripper_closed"]
    published = Expected(action=eef(dict_eef(s, gripper)), state=pos_quat(beside(pose, closed)))
    own = Expected(
        action={
            POSITION: s["action/world_vector"],
            TURN: rotation_vectors(from_roll_pitch_yaw(s["action/rotation_delta"])),
            GRIPPER: gripper,
        },
        state={
            PLACE: pose[:, :3],
            ORIENTATION: six_d(from_quaternions(pose[:, 3:])),
            GRIPPER: clipped_and_inverted(closed),
        },
    )
    return {"": own, "octo": published, "openvla": published}


def _bridge_values(rng, steps):
    state = rng.normal(0, 0.5, (steps, 7))
    state[:, 5] = np.where(np.arange(steps) % 2, 3.1, -3.1)  # the yaw wraps at every step
    state[:, 6] = rng.uniform(-0.3, 1.3, steps)
    action = rng.normal(0, 0.02, (steps, 7))
    action[:, 6] = [1, 0.97, 0.5, 0.3, 0.01, 0.5, 0.96, 0.4]
    black = simplejpeg.encode_jpeg(np.zeros((32, 32, 3), np.uint8))
    return {"observation/state": state, "action": action, "observation/image_1": [black] * steps}


@CASES.add("bridge_dataset", "bridge_orig", filled=_bridge_values)
def _bridge(s):
    state, gripper = numbers(s["observation/state"]), binarized(s["action"][:, 6])
    moved = np.diff(state[:, :6], axis=0)
    matrices = from_roll_pitch_yaw(state[:, 3:6])
    own = Expected(
        action={POSITION: moved[1:, :3], TURN: turn(matrices[2:], matrices[1:-1]), GRIPPER: gripper[1:-1]},
        state={
            PLACE: state[1:-1, :3],
            ORIENTATION: six_d(matrices)[1:-1],
            GRIPPER: clipped(state[1:-1, 6]),
        },
        kept=slice(1, -1),
    )
    octo = Expected(action=eef(beside(moved, gripper[:-1])), state=pos_euler(state[:-1]), kept=slice(-1))
    openvla = Expected(action=eef(beside(moved[1:], gripper[1:-1])), state=pos_euler(state[1:-1]), kept=slice(1, -1))
    return {"": own, "octo": octo, "openvla": openvla}


def _taco_values(rng, steps):
    relative = rng.normal(0, 0.5, (steps, 7))
    relative[:, 6] = np.where(np.arange(steps) < 4, 1, -1)
    state = rng.normal(size=(steps, 15))
    state[:, 6] = np.linspace(0.08, 0, steps)
    return {"action/rel_actions_world": relative, "observation/robot_obs": state}


@CASES.add("taco_play", filled=_taco_values)
def _taco(s):
    relative, state = s["action/rel_actions_world"], s["observation/robot_obs"]
    gripper = clipped(relative[:, 6])
    own = Expected(
        action={
            POSITION: relative[:, :3] * 0.02,
            TURN: rotation_vectors(from_roll_pitch_yaw(relative[:, 3:6] * 0.05)),
            GRIPPER: gripper,
        },
        state={
            PLACE: state[:, :3],
            ORIENTATION: six_d(from_roll_pitch_yaw(state[:, 3:6])),
            GRIPPER: state[:, 6] / 0.08,
            JOINTS: state[:, 7:14],
        },
    )
    published = Expected(
        action=eef(beside(relative[:, :6], gripper)), state=pos_euler(beside(state[:, :6], state[:, 7]))
    )
    return {"": own, "octo": published, "openvla": published}


@CASES.add(
    "jaco_play",
    filled=lambda rng, steps: {
        "action/gripper_closedness_action": COMMANDS,
        "observation/end_effector_cartesian_pos": _pose(rng, steps),
    },
)
def _jaco_play(s):
    vector, pose = s["action/world_vector"], s["observation/end_effector_cartesian_pos"]
    gripper = integrated(s["action/gripper_closedness_action"])
    own = Expected(
        action={POSITION: vector, GRIPPER: gripper},
        state={
            PLACE: pose[:, :3],
            ORIENTATION: six_d(from_quaternions(pose[:, 3:])),
            f"{JOINTS}[0:6]": s["observation/joint_pos"][:, :6],
        },
    )
    published = Expected(action=eef(beside(vector, zeros(vector), gripper)), state=pos_euler(pose))
    return {"": own, "octo": published, "openvla": published}


@CASES.add("berkeley_cable_routing")
def _cable_routing(s):
    vector, rotation = s["action/world_vector"], s["action/rotation_delta"]
    published = Expected(
        action=eef(beside(vector, rotation, zeros(vector, 1))), state={JOINTS: s["observation/robot_state"]}
    )
    own = Expected(action={POSITION: vector, f"{TURN}[2:3]": rotation[:, 2]}, state={})
    return {"": own, "octo": published, "openvla": published}


@CASES.add("roboturk", filled=commands(values=CLOSEDNESS))
def _roboturk(s):
    gripper = clipped_and_inverted(s["action/gripper_closedness_action"])
    own = Expected(action=eef(dict_eef(s, gripper)), state={})
    return {"": own, "octo": own}


@CASES.add("nyu_door_opening_surprising_effectiveness", filled=commands(values=CLOSEDNESS))
def _nyu_door(s):
    closedness = s["action/gripper_closedness_action"]
    own = Expected(action=eef(dict_eef(s, clipped_and_inverted(closedness))), state={})
    published = Expected(action=eef(dict_eef(s, integrated(closedness))), state={})
    return {"": own, "octo": published, "openvla": published}


def _viola_values(rng, steps):
    matrices = np.zeros((steps, 4, 4))
    matrices[:, :3, :3] = from_quaternions(unit_quaternions(rng, steps))
    matrices[:, :3, 3], matrices[:, 3, 3] = rng.normal(size=(steps, 3)), 1
    return {
        "observation/ee_states": matrices.transpose(0, 2, 1).reshape(steps, 16),
        "observation/gripper_states": rng.uniform(0, 0.08, (steps, 1)),
        "action/gripper_closedness_action": CLOSEDNESS[:, 0],
    }


@CASES.add("viola", filled=_viola_values)
def _viola(s):
    action = eef(dict_eef(s, clipped_and_inverted(s["action/gripper_closedness_action"])))
    matrices = numbers(s["observation/ee_states"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    joints, width = s["observation/joint_states"], s["observation/gripper_states"]
    own = Expected(
        action=action,
        state={
            PLACE: matrices[:, :3, 3],
            ORIENTATION: six_d(matrices[:, :3, :3]),
            GRIPPER: width / 0.08,
            JOINTS: joints,
        },
    )
    published = Expected(action=action, state={GRIPPER: width, JOINTS: joints})
    return {"": own, "octo": published, "openvla": published}


def _ur5_values(rng, steps):
    state = rng.normal(size=(steps, 15))
    state[:, 9:13], state[:, 13] = unit_quaternions(rng, steps), 1.05 * (np.arange(steps) >= 3)
    return {"observation/robot_state": state, "action/gripper_closedness_action": COMMANDS[:, 0]}


@CASES.add("berkeley_autolab_ur5", filled=_ur5_values)
def _ur5(s):
    gripper, state = integrated(s["action/gripper_closedness_action"]), s["observation/robot_state"]
    own = Expected(
        action={
            POSITION: s["action/world_vector"],
            TURN: rotation_vectors(from_roll_pitch_yaw(s["action/rotation_delta"])),
            GRIPPER: gripper,
        },
        state={
            PLACE: state[:, 6:9],
            ORIENTATION: six_d(from_quaternions(state[:, 9:13])),
            GRIPPER: clipped_and_inverted(state[:, 13]),
            f"{JOINTS}[0:6]": state[:, :6],
        },
    )
    published = Expected(action=eef(dict_eef(s, gripper)), state=pos_quat(state[:, 6:14]))
    return {"": own, "octo": published, "openvla": published}


def _toto_values(rng, steps):
    angles = rng.normal(0, 0.5, (steps, 3))
    angles[:, 0] = np.where(np.arange(steps) % 2, 3.1, -3.1)  # an angle that wraps at every step
    return {"action/rotation_delta": angles}


@CASES.add("toto", filled=_toto_values)
def _toto(s):
    place, joints = numbers(s["action/world_vector"]), s["observation/state"]
    targets = from_roll_pitch_yaw(s["action/rotation_delta"])
    own = Expected(
        action={POSITION: np.diff(place, axis=0), TURN: turn(targets[1:], targets[:-1])},
        state={JOINTS: joints[1:]},
        kept=slice(1, None),
    )
    published = Expected(action=eef(dict_eef(s, s["action/open_gripper"])), state={JOINTS: joints})
    return {"": own, "octo": published, "openvla": published}


def _codes(rng, steps):
    codes = np.zeros((steps, 512), np.int32)
    letters = np.frombuffer("push the blue cube to the café".encode(), np.uint8)
    codes[:, : len(letters)] = letters
    return {"observation/instruction": codes}


@CASES.add("language_table", filled=_codes)
def _language_table(s):
    action, place = s["action"], s["observation/effector_translation"]
    own = Expected(action={f"{POSITION}[0:2]": action[:-1]}, state={f"{PLACE}[0:2]": place[:-1]}, kept=slice(-1))
    seven = beside(action, zeros(action, 4), 1 + zeros(action, 1))
    published = Expected(action=eef(seven), state={f"{PLACE}[0:2]": place})
    return {"": own, "octo": published, "openvla": published}


@CASES.add("columbia_cairlab_pusht_real")
def _pusht(s):
    place = {f"{PLACE}[0:2]": s["observation/robot_state"]}
    published = Expected(action=eef(dict_eef(s, s["action/gripper_closedness_action"])), state=place)
    own = Expected(action={f"{POSITION}[0:2]": s["action/world_vector"][:, :2]}, state=place)
    return {"": own, "octo": published, "openvla": published}
