"""The data sets that only OpenVLA and OpenVLA-OFT name: rows 59, 60, 64 to 76 of the table."""

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
    pos_euler,
)
from tests.ingest.published_rules import (
    beside,
    binarized,
    clipped,
    clipped_and_inverted,
    from_roll_pitch_yaw,
    from_rotation_vectors,
    inverted,
    numbers,
    rotation_vectors,
    six_d,
    turn,
)

CASES = Cases()
STEP_M, STEP_RAD = 0.075, 0.15
"""What a DROID velocity of 1 moves and turns in one step."""


def _wrapping(rng, steps):
    """Yaw jumps over ±pi at every step, as real Bridge does."""
    yaw = np.where(np.arange(steps) % 2, 3.1, -3.1)
    state = beside(rng.normal(0, 0.3, (steps, 5)), yaw, rng.uniform(0, 1.1, steps))
    return {"observation/state": state, "action/open_gripper": rng.random(steps) < 0.5}


@CASES.add("bridge_oxe", filled=_wrapping)
def _bridge_oxe(s):
    state, is_open = numbers(s["observation/state"]), numbers(s["action/open_gripper"])[1:-1]
    matrices, kept = from_roll_pitch_yaw(state[:, 3:6]), slice(1, -1)
    moved = np.diff(state[:, :6], axis=0)[1:]
    turned = turn(matrices[1:], matrices[:-1])[1:]
    observed = {PLACE: state[kept, :3], ORIENTATION: six_d(matrices)[kept], GRIPPER: clipped(state[kept, 6])}
    return {
        "": Expected(action={POSITION: moved[:, :3], TURN: turned, GRIPPER: is_open}, state=observed, kept=kept),
        "openvla": Expected(action=eef(beside(moved, is_open)), state=pos_euler(state[kept]), kept=kept),
    }


def _grippers(rng, steps):
    openings = {"action_dict/gripper_position", "observation/gripper_position"}
    return {key: rng.uniform(0, 1, (steps, 1)) for key in openings}


@CASES.add("droid", "droid_wipe", filled=_grippers)
def _droid(s):
    velocity, pose = numbers(s["action_dict/cartesian_velocity"]), numbers(s["observation/cartesian_position"])
    commanded, closed = s["action_dict/gripper_position"], s["observation/gripper_position"]
    joints = {JOINTS: s["observation/joint_position"]}
    turned = rotation_vectors(from_roll_pitch_yaw(velocity[:, 3:] * STEP_RAD))
    own = Expected(
        action={POSITION: velocity[:, :3] * STEP_M, TURN: turned, GRIPPER: clipped_and_inverted(commanded)},
        state={
            PLACE: pose[:, :3],
            ORIENTATION: six_d(from_roll_pitch_yaw(pose[:, 3:])),
            GRIPPER: clipped_and_inverted(closed),
            **joints,
        },
    )
    openvla = Expected(action=eef(beside(velocity, inverted(commanded))), state=pos_euler(beside(pose, closed)))
    joint_velocity = {JOINTS: s["action_dict/joint_velocity"], GRIPPER: commanded}
    openpi = Expected(action=joint_velocity, state={**joints, GRIPPER: closed})
    return {"": own, "openvla": openvla, "joint_velocity": openpi}


def _tabletop_values(rng, steps):
    signal = np.array([1, 1, 0.6, 0.3, 0, 0, 0.4, 1])
    return {
        "action": beside(rng.normal(0, 0.3, (steps, 6)), signal),
        "observation/gripper_position": rng.uniform(0, 1, (steps, 1)),
    }


@CASES.add(
    "tdroid_carrot_in_bowl",
    "tdroid_pour_corn_in_pot",
    "tdroid_flip_pot_upright",
    "tdroid_move_object_onto_plate",
    "tdroid_knock_object_over",
    "tdroid_cover_object_with_towel",
    filled=_tabletop_values,
)
def _tabletop(s):
    action, pose = numbers(s["action"]), numbers(s["observation/cartesian_position"])
    commanded, closed = binarized(action[:, 6]), s["observation/gripper_position"]
    own = Expected(
        action={
            POSITION: action[:, :3],
            TURN: rotation_vectors(from_roll_pitch_yaw(action[:, 3:6])),
            GRIPPER: commanded,
        },
        state={
            PLACE: pose[:, :3],
            ORIENTATION: six_d(from_roll_pitch_yaw(pose[:, 3:])),
            GRIPPER: clipped_and_inverted(closed),
        },
    )
    openvla = Expected(action=eef(beside(action[:, :6], commanded)), state=pos_euler(beside(pose, closed)))
    return {"": own, "openvla": openvla}


def _libero_values(rng, steps):
    fingers = rng.uniform(0, 0.045, (steps, 1))
    return {
        "action": beside(rng.uniform(-1, 1, (steps, 6)), rng.choice([-1, 1], steps)),
        "observation/state": beside(rng.normal(0, 0.5, (steps, 6)), fingers, -fingers),
    }


@CASES.add(
    "libero_spatial_no_noops",
    "libero_object_no_noops",
    "libero_goal_no_noops",
    "libero_10_no_noops",
    "libero_4_task_suites_no_noops",
    filled=_libero_values,
)
def _libero(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    is_open = clipped_and_inverted(action[:, 6])
    own = Expected(
        action={POSITION: action[:, :3] * 0.05, TURN: action[:, 3:6] * 0.5, GRIPPER: is_open},
        state={
            PLACE: state[:, :3],
            ORIENTATION: six_d(from_rotation_vectors(state[:, 3:6])),
            GRIPPER: np.clip((state[:, 6] - state[:, 7]) / 0.08, 0, 1),
            JOINTS: s["observation/joint_state"],
        },
    )
    observed = {**pos_euler(state[:, :7]), "reserved.0": state[:, 7]}
    published = Expected(action=eef(beside(action[:, :6], is_open)), state=observed)
    return {"": own, "openvla": published, "oft": published}
