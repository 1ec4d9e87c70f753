"""Wheels and pairs of arms: GNM's navigation, ALOHA and Mobile ALOHA."""

import numpy as np

from tests.ingest.published_case import ORIENTATION, PLACE, Cases, Expected, eef
from tests.ingest.published_rules import beside, clipped, numbers, zeros

CASES = Cases()
LEFT, RIGHT = slice(0, 7), slice(7, 14)


def _driven(rng, steps):
    """Yaw jumps over ±pi at every step."""
    yaw = np.where(np.arange(steps) % 2, 3.1, -3.1) + rng.normal(0, 0.02, steps)
    position = rng.normal(size=(steps, 2))
    return {
        "observation/position": position,
        "observation/yaw": yaw[:, None],
        "observation/state": beside(position, yaw),
    }


def _displacements(position, yaw) -> np.ndarray:
    """To the next position, along the axes of the robot as it stands: R(yaw)^T times the displacement."""
    rows = []
    for here, there, angle in zip(position[:-1], position[1:], yaw[:-1, 0], strict=True):
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        rows.append(axes @ (there - here))
    return np.array(rows)


def _own(s, control_hz: float) -> Expected:
    position, yaw = numbers(s["observation/position"]), numbers(s["observation/yaw"])
    turned = (np.diff(yaw, axis=0) + np.pi) % (2 * np.pi) - np.pi
    velocity = beside(_displacements(position, yaw), turned) * control_hz
    pose = beside(position, np.cos(yaw), np.sin(yaw))
    return Expected(action={"base_velocity": velocity}, state={"base_pose": pose[:-1]}, kept=slice(None, -1))


def _openvla(s) -> Expected:
    position, yaw = s["observation/position"], s["observation/yaw"]
    observed = beside(position, zeros(position, 3), yaw)
    action = eef(beside(s["action"], zeros(position, 5)))
    return Expected(action=action, state={PLACE: observed[:, :3], f"{ORIENTATION}[0:3]": observed[:, 3:]})


@CASES.add("berkeley_gnm_recon", filled=_driven)
def _recon(s):
    return {"": _own(s, 3), "openvla": _openvla(s)}


@CASES.add("berkeley_gnm_cory_hall", filled=_driven)
def _cory_hall(s):
    return {"": _own(s, 5), "openvla": _openvla(s)}


@CASES.add("berkeley_gnm_sac_son", filled=_driven)
def _sac_son(s):
    return {"": _own(s, 10), "openvla": _openvla(s)}


@CASES.add("gnm_dataset", filled=_driven)
def _gnm(s):
    position, yaw = numbers(s["observation/position"])[::3], numbers(s["observation/yaw"])[::3]
    pose = beside(position, np.cos(yaw), np.sin(yaw))
    published = Expected(
        action={"base_velocity[0:2]": _displacements(position, yaw)},
        state={"base_pose": pose[:-1]},
        kept=slice(0, 6, 3),
    )
    return {"": _own(s, 4), "octo": published}


def _two_arms(vector) -> dict[str, np.ndarray]:
    vector, slots = numbers(vector), dict[str, np.ndarray]()
    for arm, columns in (("arm0", vector[:, LEFT]), ("arm1", vector[:, RIGHT])):
        slots |= {f"{arm}.joint_position[0:6]": columns[:, :6], f"{arm}.gripper": columns[:, 6]}
    return slots


def _grippers_clipped(vector) -> np.ndarray:
    vector = numbers(vector).copy()
    vector[:, [6, 13]] = clipped(vector[:, [6, 13]])
    return vector


def _wheels(action) -> dict[str, np.ndarray]:
    action = numbers(action)
    return {"base_velocity.x": action[:, 14], "base_velocity.yaw": action[:, 15]} if action.shape[1] == 16 else {}


def _one_step_late(s) -> Expected:
    """ACT's pairing on real robots: the action before goes with an observation."""
    action, state = s["action"][:-1], s["observation/state"][1:]
    moved = {**_two_arms(_grippers_clipped(action)), **_wheels(action)}
    return Expected(action=moved, state=_two_arms(_grippers_clipped(state)), kept=slice(1, None))


@CASES.add("aloha_static_dataset", "aloha_dagger_dataset", "aloha_mobile_dataset")
def _aloha(s):
    action, state = s["action"][::5], s["observation/state"][::5]
    published = {**_two_arms(action), **_wheels(action)}
    octo = Expected(action=published, state=_two_arms(state), kept=slice(None, None, 5))
    return {"": _one_step_late(s), "octo": octo}


@CASES.add(
    "aloha1_fold_shorts_20_demos",
    "aloha1_fold_shirt_30_demos",
    "aloha1_scoop_X_into_bowl_45_demos",
    "aloha1_put_X_into_pot_300_demos",
)
def _aloha1(s):
    oft = Expected(action=_two_arms(s["action"]), state=_two_arms(s["observation/state"]))
    return {"": _one_step_late(s), "oft": oft}
