"""Published data sets that Octo and OpenVLA never named; none has a published transform, so none has variants."""

import numpy as np

from tests.ingest.published_case import GRIPPER, JOINTS, ORIENTATION, PLACE, POSITION, TURN, Cases, Expected
from tests.ingest.published_rules import (
    beside,
    clipped_and_inverted,
    from_quaternions,
    from_roll_pitch_yaw,
    from_yaw_pitch_roll,
    integrated,
    numbers,
    rotation_vectors,
    scalar_last,
    six_d,
    turn,
    unit_quaternions,
)

CASES = Cases()
DEGREE = np.pi / 180


@CASES.add("conq_hose_manipulation")
def _conq(s):
    action = numbers(s["action"])
    turned = rotation_vectors(from_roll_pitch_yaw(action[:, 3:6]))
    return {"": Expected(action={POSITION: action[:, :3], TURN: turned, GRIPPER: action[:, 6]}, state={})}


@CASES.add("eth_agent_affordances")
def _eth(s):
    state = numbers(s["observation/state"])
    matrices = from_yaw_pitch_roll(state[:, 3:6])
    moved = {POSITION: np.diff(state[:, :3], axis=0), TURN: turn(matrices[1:], matrices[:-1])}
    observed = {PLACE: state[:-1, :3], ORIENTATION: six_d(matrices)[:-1]}
    return {"": Expected(action=moved, state=observed, kept=slice(None, -1))}


def _qut_values(rng, steps):
    offset = beside(
        rng.normal(0, 0.3, (steps, 3)), rng.normal(0, 0.1, (steps, 3)), np.ones(steps), rng.normal(size=steps)
    )
    pose = beside(rng.normal(size=(steps, 3)), unit_quaternions(rng, steps))
    state = beside(pose, rng.normal(size=(steps, 7)), rng.uniform(0, 0.0404, (steps, 2)), rng.normal(size=(steps, 7)))
    return {"action": offset, "observation/state": state}


@CASES.add("qut_dexterous_manpulation", filled=_qut_values)
def _qut(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    opened = (state[:, 14] + state[:, 15]) / 0.0808
    turned = rotation_vectors(from_quaternions(action[:, 3:7]))
    observed = {
        PLACE: state[:, :3],
        ORIENTATION: six_d(from_quaternions(state[:, 3:7])),
        JOINTS: state[:, 7:14],
        GRIPPER: opened,
    }
    commanded = {POSITION: action[:, :3], TURN: turned, GRIPPER: np.append(opened[1:], opened[-1])}
    return {"": Expected(action=commanded, state=observed)}


def _picker_values(rng, steps):
    return {"action": beside(rng.normal(size=(steps, 3)), np.where(np.arange(steps) < 3, 0.0, 0.8))}


@CASES.add("usc_cloth_sim_converted_externally_to_rlds", filled=_picker_values)
def _usc_cloth(s):
    return {"": Expected(action={GRIPPER: numbers(s["action"])[:, 3] < 0.5}, state={})}


@CASES.add("utokyo_saytap_converted_externally_to_rlds")
def _saytap(s):
    return {"": Expected(action={}, state={})}


def _plex_values(rng, steps):
    state = beside(rng.normal(size=(steps, 24)), unit_quaternions(rng, steps), rng.uniform(0, 0.04, (steps, 4)))
    return {"observation/state": state}


@CASES.add("plex_robosuite", filled=_plex_values)
def _plex(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    observed = {
        PLACE: state[:, 21:24],
        ORIENTATION: six_d(from_quaternions(state[:, 24:28])),
        GRIPPER: (state[:, 28] + state[:, 29]) / 0.08,
    }
    commanded = {POSITION: action[:, :3], TURN: action[:, 3:6], GRIPPER: clipped_and_inverted(action[:, 6])}
    return {"": Expected(action=commanded, state=observed)}


def _mimic_play_values(rng, steps):
    return {"observation/state/ee_pose": beside(rng.normal(size=(steps, 3)), unit_quaternions(rng, steps))}


@CASES.add("mimic_play", filled=_mimic_play_values)
def _mimic_play(s):
    action, pose = numbers(s["action"]), numbers(s["observation/state/ee_pose"])
    observed = {
        PLACE: pose[:, :3],
        ORIENTATION: six_d(from_quaternions(pose[:, 3:])),
        GRIPPER: s["observation/state/gripper_position"],
        JOINTS: s["observation/state/joint_positions"],
    }
    commanded = {POSITION: action[:, :3], TURN: action[:, 3:6], GRIPPER: action[:, 6]}
    return {"": Expected(action=commanded, state=observed)}


def _io_ai_values(rng, steps):
    commands = np.array([0, 0, 1, 0, 0, -1, 0, 0])
    pose = beside(rng.normal(size=(steps, 3)), unit_quaternions(rng, steps), commands)
    return {"action": beside(rng.normal(0, 0.3, (steps, 6)), commands), "observation/state": pose}


@CASES.add("io_ai_tech", filled=_io_ai_values)
def _io_ai(s):
    action, state = numbers(s["action"]), numbers(s["observation/state"])
    turned = rotation_vectors(from_yaw_pitch_roll(action[:, 3:6]))
    observed = {PLACE: state[:, :3], ORIENTATION: six_d(from_quaternions(scalar_last(state[:, 3:7])))}
    return {
        "": Expected(action={POSITION: action[:, :3], TURN: turned, GRIPPER: integrated(action[:, 6])}, state=observed)
    }


@CASES.add("spoc")
def _spoc(s):
    action, arm = numbers(s["action"]), numbers(s["observation/relative_arm_location_metadata"])
    commanded = {
        "base_velocity.x": action[:, 1] * 10,
        "base_velocity.yaw": -action[:, 0] * DEGREE * 10,
        "arm0.eef_position_delta.x": action[:, 3],
        "arm0.eef_position_delta.z": action[:, 2],
        "terminate": action[:, 7],
    }
    return {"": Expected(action=commanded, state={PLACE: beside(arm[:, 2], -arm[:, 0], arm[:, 1])})}


@CASES.add("vima_converted_externally_to_rlds")
def _vima(s):
    return {"": Expected(action={}, state={})}
