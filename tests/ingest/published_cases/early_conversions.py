"""Rows 14 to 25 of the table of Octo and OpenVLA: data sets "converted externally", with a vector for an action."""

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
    pos_quat,
)
from tests.ingest.published_rules import (
    beside,
    clipped,
    clipped_and_inverted,
    euler_of,
    from_quaternions,
    from_roll_pitch_yaw,
    from_rotation_vectors,
    inverted,
    numbers,
    rotation_vectors,
    scalar_last,
    six_d,
    small_numbers,
    turn,
    unit_quaternions,
    zeros,
)

CASES = Cases()
OPEN_AND_CLOSE = np.array([-1, -1.05, 0.3, 1, 1.05, 0.5, -1, 0], np.float32)
CLOSED = np.array([0, 0, 1, 1, 1.04, 0, -0.03, 1])
"""A little outside of 0..1 at times, as measured values are."""


def flat_matrices(rng, steps) -> np.ndarray:
    """Random poses as 4x4 matrices written column by column [steps, 16]."""
    matrices = np.zeros((steps, 4, 4))
    matrices[:, :3, :3] = from_quaternions(unit_quaternions(rng, steps))
    matrices[:, :3, 3], matrices[:, 3, 3] = rng.normal(size=(steps, 3)), 1
    return matrices.transpose(0, 2, 1).reshape(steps, 16)


def pose_of(flat) -> dict[str, np.ndarray]:
    matrices = numbers(flat).reshape(-1, 4, 4).transpose(0, 2, 1)
    return {PLACE: matrices[:, :3, 3], ORIENTATION: six_d(matrices[:, :3, :3])}


def _stanford_kuka_values(rng, steps):
    return {"observation/ee_orientation": unit_quaternions(rng, steps)}


@CASES.add("stanford_kuka_multimodal_dataset_converted_externally_to_rlds", filled=_stanford_kuka_values)
def _stanford_kuka(s):
    action, place, orientation = s["action"], s["observation/ee_position"], s["observation/ee_orientation"]
    published = Expected(
        action=eef(beside(action[:, :3], zeros(action), action[:, 3])), state=pos_quat(beside(place, orientation))
    )
    own = Expected(
        action={POSITION: action[:, :3]},
        state={PLACE: place, ORIENTATION: six_d(from_quaternions(orientation)), JOINTS: s["observation/joint_pos"]},
    )
    return {"": own, "octo": published, "openvla": published}


def _nyu_rot_values(rng, steps):
    return {
        "action": small_numbers(rng, steps, 7, c6=CLOSED),
        "observation/state": small_numbers(rng, steps, 7, c6=CLOSED),
    }


@CASES.add("nyu_rot_dataset_converted_externally_to_rlds", filled=_nyu_rot_values)
def _nyu_rot(s):
    action, state = s["action"], s["observation/state"]
    own = Expected(
        action={POSITION: action[:, :3], TURN: action[:, 3:6], GRIPPER: clipped_and_inverted(action[:, 6])},
        state={
            PLACE: state[:, :3],
            ORIENTATION: six_d(from_roll_pitch_yaw(state[:, 3:6])),
            GRIPPER: clipped_and_inverted(state[:, 6]),
        },
    )
    published = Expected(action=eef(action), state=pos_euler(state))
    return {"": own, "octo": published, "openvla": published}


def _hydra_values(rng, steps):
    state = small_numbers(rng, steps, 27, c24=np.linspace(0.08, 0, steps))
    return {"action": small_numbers(rng, steps, 7, c6=CLOSED), "observation/state": state}


@CASES.add("stanford_hydra_dataset_converted_externally_to_rlds", filled=_hydra_values)
def _hydra(s):
    action, state = s["action"], s["observation/state"]
    own = Expected(
        action=eef(beside(action[:, :6], clipped_and_inverted(action[:, 6]))),
        state={
            PLACE: state[:, :3],
            ORIENTATION: six_d(from_roll_pitch_yaw(state[:, 7:10])),
            GRIPPER: state[:, 24] / 0.08,
            JOINTS: state[:, 10:17],
        },
    )
    proprio = beside(state[:, :3], state[:, 7:10], state[:, -3])
    published = Expected(action=eef(beside(action[:, :6], inverted(action[:, 6]))), state=pos_euler(proprio))
    return {"": own, "octo": published, "openvla": published}


def _buds_values(rng, steps):
    state = beside(small_numbers(rng, steps, 7), np.linspace(0.08, 0, steps), flat_matrices(rng, steps))
    return {"action": small_numbers(rng, steps, 7, c3=0, c4=0, c5=0, c6=OPEN_AND_CLOSE), "observation/state": state}


@CASES.add("austin_buds_dataset_converted_externally_to_rlds", filled=_buds_values)
def _buds(s):
    action, state = s["action"], s["observation/state"]
    gripper = clipped_and_inverted(action[:, 6])
    own = Expected(
        action={POSITION: action[:, :3], GRIPPER: gripper},
        state={**pose_of(state[:, 8:]), GRIPPER: state[:, 7] / 0.08, JOINTS: state[:, :7]},
    )
    published = Expected(action=eef(beside(action[:, :6], gripper)), state={JOINTS: state[:, :7], GRIPPER: state[:, 7]})
    return {"": own, "octo": published, "openvla": published}


def _franka_play_values(rng, steps):
    return {"action": small_numbers(rng, steps, 15, c13=-OPEN_AND_CLOSE)}


@CASES.add("nyu_franka_play_dataset_converted_externally_to_rlds", filled=_franka_play_values)
def _franka_play(s):
    action, state = s["action"], s["observation/state"]
    published_action = eef(beside(action[:, -8:-2], clipped(action[:, -2])))
    matrices = from_roll_pitch_yaw(state[:, 10:13])
    moved = {POSITION: np.diff(state[:, 7:10], axis=0), TURN: turn(matrices[1:], matrices[:-1])}
    seen = {PLACE: state[:, 7:10], ORIENTATION: six_d(matrices), JOINTS: state[:, :7]}
    own = Expected(
        action={**moved, GRIPPER: clipped(action[:-1, -2])},
        state={group: values[:-1] for group, values in seen.items()},
        kept=slice(-1),
    )
    published = Expected(action=published_action, state=pos_euler(state[:, -6:]))
    return {"": own, "octo": published, "openvla": published}


def _maniskill_values(rng, steps):
    pose = beside(rng.normal(size=(steps, 3)), unit_quaternions(rng, steps))
    fingers = np.linspace(0.04, 0, steps)
    return {
        "action": small_numbers(rng, steps, 7, c6=[1, 1.08, -1, -1, 1, 1, -1, 0]),
        "observation/tcp_pose": pose,
        "observation/state": small_numbers(rng, steps, 18, c7=fingers, c8=fingers),
    }


@CASES.add("maniskill_dataset_converted_externally_to_rlds", filled=_maniskill_values)
def _maniskill(s):
    action, pose, state = s["action"], s["observation/tcp_pose"], s["observation/state"]
    own = Expected(
        action={
            POSITION: action[:, :3] * 0.1,
            TURN: rotation_vectors(from_rotation_vectors(action[:, 3:6] * 0.1)),
            GRIPPER: clipped((action[:, 6] + 1) / 2),
        },
        state={
            PLACE: pose[:, :3],
            ORIENTATION: six_d(from_quaternions(scalar_last(pose[:, 3:]))),
            GRIPPER: (state[:, 7] + state[:, 8]) / 0.08,
            JOINTS: state[:, :7],
        },
    )
    published = Expected(action=eef(action), state=pos_quat(beside(pose, state[:, 7])))
    return {"": own, "octo": published, "openvla": published}


def _furniture_values(rng, steps):
    half = rng.normal(0, 0.1, (steps, 3))  # of the small angles of the deltas
    delta = beside(half, np.sqrt(1 - (half**2).sum(1)))
    action = beside(rng.normal(0, 0.02, (steps, 3)), delta, OPEN_AND_CLOSE)
    state = small_numbers(rng, steps, 35, c34=np.linspace(0.08, 0, steps))
    state[:, 3:7] = unit_quaternions(rng, steps)
    return {"action": action, "observation/state": state}


@CASES.add("furniture_bench_dataset_converted_externally_to_rlds", filled=_furniture_values)
def _furniture(s):
    action, state = s["action"], s["observation/state"]
    delta, present = from_quaternions(action[:, 3:7]), from_quaternions(state[:, 3:7])
    gripper = clipped_and_inverted(action[:, 7])
    goal = present @ delta  # the lab's controller: the turn is made in the tool's own axes
    own = Expected(
        action={POSITION: action[:, :3], TURN: turn(goal, present), GRIPPER: gripper},
        state={
            PLACE: state[:, :3],
            ORIENTATION: six_d(present),
            GRIPPER: state[:, 34] / 0.08,
            JOINTS: state[:, 13:20],
        },
    )
    published = Expected(
        action=eef(beside(action[:, :3], euler_of(delta), gripper)), state=pos_quat(beside(state[:, :7], state[:, -1]))
    )
    return {"": own, "octo": published, "openvla": published}


@CASES.add(
    "cmu_franka_exploration_dataset_converted_externally_to_rlds",
    filled=lambda rng, steps: {"action": small_numbers(rng, steps, 8, c6=1.05 * (np.arange(steps) < 3))},
)
def _franka_exploration(s):
    action = s["action"]
    own = Expected(action={POSITION: action[:, :3], GRIPPER: clipped(action[:, 6])}, state={})
    published = Expected(action=eef(action[:, :-1]), state={})
    return {"": own, "octo": published, "openvla": published}


def _ucsd_kitchen_values(rng, steps):
    pose = beside(rng.uniform(100, 500, (steps, 3)), rng.uniform(-60, 60, (steps, 3)))
    pose[:, 3] = np.where(np.arange(steps) % 2, 179, -179)  # an angle that wraps at every step
    return {"action": beside(pose, CLOSED, zeros(pose, 1))}


@CASES.add("ucsd_kitchen_dataset_converted_externally_to_rlds", filled=_ucsd_kitchen_values)
def _ucsd_kitchen(s):
    action, joints = numbers(s["action"]), s["observation/state"][:, :7]
    targets = from_roll_pitch_yaw(np.deg2rad(action[:, 3:6]))
    own = Expected(
        action={
            POSITION: np.diff(action[:, :3], axis=0) / 1000,
            TURN: turn(targets[1:], targets[:-1]),
            GRIPPER: clipped(action[1:, 6]),
        },
        state={JOINTS: joints[1:]},
        kept=slice(1, None),
    )
    published = Expected(action=eef(action[:, :-1]), state={JOINTS: joints})
    return {"": own, "octo": published, "openvla": published}


def _ucsd_pick_values(rng, steps):
    state = small_numbers(rng, steps, 7, c6=np.linspace(0, 6.03, steps))
    return {"action": small_numbers(rng, steps, 4, c3=OPEN_AND_CLOSE), "observation/state": state}


@CASES.add("ucsd_pick_and_place_dataset_converted_externally_to_rlds", filled=_ucsd_pick_values)
def _ucsd_pick(s):
    action, state = s["action"], s["observation/state"]
    own = Expected(
        action={POSITION: action[:, :3], GRIPPER: clipped((1 - action[:, 3]) / 2)},
        state={PLACE: state[:, :3], GRIPPER: state[:, 6] / 6.03},
    )
    published = Expected(action=eef(beside(action[:, :3], zeros(action), action[:, 3])), state=pos_euler(state))
    return {"": own, "octo": published, "openvla": published}


def _austin_values(rng, steps):
    return {
        "action": small_numbers(rng, steps, 7, c3=0, c4=0, c6=OPEN_AND_CLOSE),
        "observation/state_ee": flat_matrices(rng, steps),
        "observation/state_gripper": np.linspace(0.077, 0, steps)[:, None],
    }


@CASES.add(
    "austin_sailor_dataset_converted_externally_to_rlds",
    "austin_sirius_dataset_converted_externally_to_rlds",
    filled=_austin_values,
)
def _austin(s):
    action, gripper = s["action"], clipped_and_inverted(s["action"][:, 6])
    own = Expected(
        action={POSITION: action[:, :3], f"{TURN}[2:3]": action[:, 5], GRIPPER: gripper},
        state={
            **pose_of(s["observation/state_ee"]),
            GRIPPER: s["observation/state_gripper"] / 0.08,
            JOINTS: s["observation/state_joint"],
        },
    )
    published = Expected(action=eef(beside(action[:, :6], gripper)), state=pos_quat(s["observation/state"]))
    return {"": own, "octo": published, "openvla": published}
