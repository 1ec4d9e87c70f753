"""Rows 26 to 40 of the table of Octo and OpenVLA: from BC-Z to the data of ASU."""

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
    clipped,
    clipped_and_inverted,
    from_quaternions,
    from_roll_pitch_yaw,
    from_rotation_vectors,
    from_yaw_pitch_roll,
    from_zxy,
    inverted,
    numbers,
    six_d,
    small_numbers,
    turn,
    unit_quaternions,
    zeros,
)

CASES = Cases()
CLOSED = np.array([0, 0, 1, 1, 1.04, 0, -0.03, 1])
"""A little outside of 0..1 at times, as measured values are."""


def achieved(place, matrices) -> dict[str, np.ndarray]:
    """The motion to the next state [T-1]."""
    return {POSITION: np.diff(numbers(place), axis=0), TURN: turn(matrices[1:], matrices[:-1])}


def _bc_z_values(rng, steps):
    return {
        "action/future/target_close": np.tile(np.round(CLOSED)[:, None], (1, 10)),
        "observation/present/sensed_close": rng.uniform(0.2, 1.2, (steps, 1)),
        "observation/present/axis_angle": rng.normal(0, 1.5, (steps, 3)),
    }


@CASES.add("bc_z", filled=_bc_z_values)
def _bc_z(s):
    xyz, axis_angle = s["action/future/xyz_residual"][:, :3], s["action/future/axis_angle_residual"][:, :3]
    place, pointing = s["observation/present/xyz"], numbers(s["observation/present/axis_angle"])
    closed, gripper = s["observation/present/sensed_close"], inverted(s["action/future/target_close"][:, 0])
    present, target = from_rotation_vectors(pointing), from_rotation_vectors(pointing + axis_angle)
    own = Expected(
        action={POSITION: xyz, TURN: turn(target, present), GRIPPER: gripper},
        state={PLACE: place, ORIENTATION: six_d(present), GRIPPER: clipped_and_inverted(closed)},
    )
    published = Expected(action=eef(beside(xyz, axis_angle, gripper)), state=pos_euler(beside(place, pointing, closed)))
    return {"": own, "octo": published, "openvla": published}


def _pr2_values(rng, steps):
    state = beside(rng.normal(0, 500, (steps, 3)), rng.normal(0, 1, (steps, 3)), np.linspace(0, 86.12, steps))
    action = beside(rng.normal(0, 20, (steps, 3)), rng.normal(0, 0.1, (steps, 3)), CLOSED, zeros(state, 1))
    return {"action": action, "observation/state": state}


@CASES.add(
    "utokyo_pr2_opening_fridge_converted_externally_to_rlds",
    "utokyo_pr2_tabletop_manipulation_converted_externally_to_rlds",
    filled=_pr2_values,
)
def _pr2(s):
    action, state = s["action"], s["observation/state"]
    place, matrices = state[:, :3] / 1000, from_roll_pitch_yaw(state[:, 3:6])
    own = Expected(
        action={**achieved(place, matrices), GRIPPER: action[:-1, 6]},
        state={PLACE: place[:-1], ORIENTATION: six_d(matrices)[:-1], GRIPPER: state[:-1, 6] / 86.12},
        kept=slice(-1),
    )
    published = Expected(action=eef(action[:, :-1]), state=pos_euler(state))
    return {"": own, "octo": published, "openvla": published}


def _xarm_values(rng, steps):
    return {"action": small_numbers(rng, steps, 7, c6=CLOSED)}


@CASES.add("utokyo_xarm_pick_and_place_converted_externally_to_rlds", filled=_xarm_values)
def _xarm_pick(s):
    action, pose = s["action"], s["observation/end_effector_pose"]
    matrices, joints = from_yaw_pitch_roll(pose[:, 3:]), s["observation/joint_state"][:, :7]
    own = Expected(
        action={**achieved(pose[:, :3], matrices), GRIPPER: clipped_and_inverted(action[:-1, 6])},
        state={PLACE: pose[:-1, :3], ORIENTATION: six_d(matrices)[:-1], JOINTS: joints[:-1]},
        kept=slice(-1),
    )
    octo, openvla = Expected(action=eef(action), state={}), Expected(action=eef(action), state=pos_euler(pose))
    return {"": own, "octo": octo, "openvla": openvla}


def _bimanual_values(rng, steps):
    return {"action": small_numbers(rng, steps, 14, c6=CLOSED, c13=1 - CLOSED)}


@CASES.add("utokyo_xarm_bimanual_converted_externally_to_rlds", filled=_bimanual_values)
def _bimanual(s):
    action = s["action"]
    own = Expected(action={}, state={}, kept=slice(-2))
    for arm, pose, first in (("arm0", s["observation/pose_l"], 0), ("arm1", s["observation/pose_r"], 7)):
        matrices = from_yaw_pitch_roll(pose[:, 3:])
        moved = achieved(pose[:, :3], matrices) | {GRIPPER: clipped_and_inverted(action[:-1, first + 6])}
        seen = {PLACE: pose[:, :3], ORIENTATION: six_d(matrices)}
        own = Expected(
            action={**own.action, **{f"{arm}.{group}": values[: len(pose) - 2] for group, values in moved.items()}},
            state={**own.state, **{f"{arm}.{group}": values[:-2] for group, values in seen.items()}},
            kept=own.kept,
        )
    octo = Expected(action=eef(action[:, 7:]), state={})
    openvla = Expected(action=eef(action[:, 7:]), state=pos_euler(s["observation/pose_r"]))
    return {"": own, "octo": octo, "openvla": openvla}


def _as_roll(five) -> np.ndarray:
    """Published: four numbers, two zeros, the last: the turn about the vertical lands in the slot of roll."""
    return beside(five[:, :4], zeros(five, 2), five[:, -1])


def _yaw_action(action) -> dict[str, np.ndarray]:
    return {POSITION: action[:, :3], f"{TURN}[2:3]": action[:, 3], GRIPPER: clipped((1 - action[:, 4]) / 2)}


@CASES.add("robo_net", filled=lambda rng, steps: {"action": small_numbers(rng, steps, 5, c4=2 * CLOSED - 1)})
def _robo_net(s):
    action, state = s["action"], s["observation/state"]
    own = Expected(action=_yaw_action(action), state={PLACE: state[:, :3]})
    published = Expected(action=eef(_as_roll(action)), state=pos_euler(_as_roll(state)))
    return {"": own, "octo": published, "openvla": published}


def _mask_vit_values(rng, steps):
    return {
        "action": small_numbers(rng, steps, 5, c4=2 * CLOSED - 1),
        "observation/end_effector_pose": small_numbers(rng, steps, 5, c4=CLOSED),
    }


@CASES.add("stanford_mask_vit_converted_externally_to_rlds", filled=_mask_vit_values)
def _mask_vit(s):
    action, pose, joints = s["action"], s["observation/end_effector_pose"], s["observation/state"][:, :7]
    own = Expected(
        action=_yaw_action(action[:-1]),
        state={PLACE: pose[:-1, :3], GRIPPER: clipped_and_inverted(pose[:-1, 4]), JOINTS: joints[:-1]},
        kept=slice(-1),
    )
    published = Expected(action=eef(_as_roll(action)), state=pos_euler(_as_roll(pose)))
    return {"": own, "octo": published, "openvla": published}


def _mvp_values(rng, steps):
    pose = beside(rng.normal(size=(steps, 3)), unit_quaternions(rng, steps))
    return {"action": small_numbers(rng, steps, 8, c7=CLOSED), "observation/pose": pose}


@CASES.add("berkeley_mvp_converted_externally_to_rlds", filled=_mvp_values)
def _mvp(s):
    action, joints, closed = numbers(s["action"]), s["observation/joint_pos"], s["observation/gripper"]
    pose = s["observation/pose"]
    own = Expected(
        action=joint_action(beside(joints + action[:, :7], clipped_and_inverted(action[:, 7]))[:-1]),
        state={
            PLACE: pose[:-1, :3],
            ORIENTATION: six_d(from_quaternions(pose[:, 3:]))[:-1],
            GRIPPER: inverted(closed)[:-1],
            JOINTS: joints[:-1],
        },
        kept=slice(-1),
    )
    proprio = pos_quat(beside(pose, closed))
    octo = Expected(action=joint_action(beside(action[:, :7], inverted(action[:, 7]))), state=proprio)
    return {"": own, "octo": octo, "openvla": Expected(action=joint_action(action), state=proprio)}


@CASES.add(
    "berkeley_rpt_converted_externally_to_rlds",
    filled=lambda rng, steps: {"action": small_numbers(rng, steps, 8, c7=CLOSED)},
)
def _rpt(s):
    action, joints, closed = (
        numbers(s["action"]),
        numbers(s["observation/joint_pos"]),
        numbers(s["observation/gripper"]),
    )
    own = Expected(
        action=joint_action(beside(joints + action[:, :7], clipped_and_inverted(action[:, 7]))[:-1]),
        state={GRIPPER: inverted(closed)[:-1], JOINTS: joints[:-1]},
        kept=slice(-1),
    )
    third = slice(None, None, 3)
    octo = Expected(
        action=joint_action(beside(np.diff(joints[third], axis=0), inverted(action[third, 7])[:-1])),
        state={GRIPPER: closed[third][:-1], JOINTS: joints[third][:-1]},
        kept=slice(None, 6, 3),
    )
    openvla = Expected(action=joint_action(action), state={GRIPPER: closed, JOINTS: joints})
    return {"": own, "octo": octo, "openvla": openvla}


def _kaist_values(rng, steps):
    return {"observation/state": beside(rng.normal(size=(steps, 17)), unit_quaternions(rng, steps))}


@CASES.add("kaist_nonprehensile_converted_externally_to_rlds", filled=_kaist_values)
def _kaist(s):
    action, state = s["action"], s["observation/state"]
    own = Expected(
        action={POSITION: action[:, :3], TURN: action[:, 3:6]},
        state={
            PLACE: state[:, 14:17],
            ORIENTATION: six_d(from_quaternions(state[:, 17:])),
            JOINTS: np.stack([state[:, 2 * joint] for joint in range(7)], axis=1),
        },
    )
    published = Expected(action=eef(beside(action[:, :6], zeros(action, 1))), state=pos_quat(state[:, -7:]))
    return {"": own, "octo": published, "openvla": published}


def _lsmo_values(rng, steps):
    state = small_numbers(rng, steps, 13, c5=np.where(np.arange(steps) % 2, 3.1, -3.1), c12=0)
    action = np.zeros((steps, 7))
    action[:-1, :6] = np.diff(state[:, :6], axis=0)  # what the lab's files hold, jumps of 2 pi and all
    return {"action": action, "observation/state": state}


@CASES.add("tokyo_u_lsmo_converted_externally_to_rlds", filled=_lsmo_values)
def _lsmo(s):
    action, state = s["action"], s["observation/state"]
    matrices = from_roll_pitch_yaw(state[:, 3:6])
    own = Expected(
        action=achieved(state[:, :3], matrices),
        state={PLACE: state[:-1, :3], ORIENTATION: six_d(matrices)[:-1], f"{JOINTS}[0:6]": state[:-1, 6:12]},
        kept=slice(-1),
    )
    published = Expected(action=eef(action), state=pos_euler(beside(state[:, :6], state[:, -1])))
    return {"": own, "octo": published, "openvla": published}


@CASES.add("dlr_sara_pour_converted_externally_to_rlds", "dlr_sara_grid_clamp_converted_externally_to_rlds")
def _sara(s):
    state = s["observation/state"]
    matrices = from_zxy(state[:, 3:6])
    own = Expected(
        action=achieved(state[:, :3], matrices),
        state={PLACE: state[:-1, :3], ORIENTATION: six_d(matrices)[:-1]},
        kept=slice(-1),
    )
    published = Expected(action=eef(s["action"]), state=pos_euler(state[:, :6]))
    return {"": own, "octo": published, "openvla": published}


def _edan_values(rng, steps):
    return {
        "action": small_numbers(rng, steps, 7, c6=CLOSED),
        "observation/state": small_numbers(rng, steps, 7, c6=CLOSED),
    }


@CASES.add("dlr_edan_shared_control_converted_externally_to_rlds", filled=_edan_values)
def _edan(s):
    action, state = s["action"], s["observation/state"]
    matrices = from_zxy(state[:, 3:6])
    own = Expected(
        action={**achieved(state[:, :3], matrices), GRIPPER: clipped_and_inverted(action[:-1, 6])},
        state={
            PLACE: state[:-1, :3],
            ORIENTATION: six_d(matrices)[:-1],
            GRIPPER: clipped_and_inverted(state[:-1, 6]),
        },
        kept=slice(-1),
    )
    published = Expected(action=eef(beside(action[:, :6], inverted(action[:, 6]))), state=pos_euler(state))
    return {"": own, "octo": published, "openvla": published}


@CASES.add("asu_table_top_converted_externally_to_rlds")
def _asu(s):
    action, pose, state = s["action"], s["ground_truth_states/EE"], s["observation/state"]
    own = Expected(
        action={f"{JOINTS}[0:6]": action[:, :6], GRIPPER: action[:, 6]},
        state={
            PLACE: pose[:, :3],
            ORIENTATION: six_d(from_roll_pitch_yaw(pose[:, 3:])),
            GRIPPER: state[:, 6],
            f"{JOINTS}[0:6]": state[:, :6],
        },
    )
    published = Expected(action=eef(action), state=pos_euler(beside(pose, state[:, -1])))
    return {"": own, "octo": published, "openvla": published}
