"""Joint targets: order, sign, unit and lag, each broken on purpose."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.spec import load_spec
from tests.quality.motions import changed, group, judged
from tests.synthetic import make_episode

TARGET, JOINTS = group("joint_position", "action"), group("joint_position", "state")
SUBJECT = "arm0.joint_position"


def found(episodes, audit="joint_targets"):
    return judged(episodes)[audit, SUBJECT]


def test_joints_that_follow_their_targets_are_ok(good_episodes):
    for audit in ("joint_targets", "joint_targets_scale", "joint_targets_lag"):
        assert found(good_episodes, audit).verdict == "ok"


def test_a_reversed_joint_is_a_fault(good_episodes):
    def plant(action, state):
        action[:, TARGET[3]] *= -1

    finding = found(changed(good_episodes, plant))
    assert finding.verdict == "fault" and "joint 3 moves against its target" in finding.evidence


def test_exchanged_joints_are_a_fault(good_episodes):
    def plant(action, state):
        action[:, [TARGET[1], TARGET[5]]] = action[:, [TARGET[5], TARGET[1]]]

    finding = found(changed(good_episodes, plant))
    assert finding.verdict == "fault" and ("joint 5 follows the target of joint 1" in finding.evidence) ^ (
        "joint 1 follows the target of joint 5" in finding.evidence
    )


@pytest.mark.parametrize(("factor", "said"), [(180 / np.pi, "degrees"), (4096 / (2 * np.pi), "not the same unit")])
def test_targets_in_another_unit_are_a_fault(good_episodes, factor, said):
    finding = found(
        changed(
            good_episodes, lambda action, state: action.__setitem__((slice(None), TARGET), action[:, TARGET] * factor)
        ),
        "joint_targets_scale",
    )
    assert finding.verdict == "fault" and said in finding.evidence
    assert finding.numbers["slope"] == pytest.approx(factor, rel=0.1)


def test_a_target_that_is_the_present_state_is_a_fault(good_episodes):
    def plant(action, state):
        action[:, TARGET] = state[:, JOINTS]

    finding = found(changed(good_episodes, plant), "joint_targets_lag")
    assert finding.verdict == "fault" and "the present state itself" in finding.evidence
    assert finding.numbers["lag_steps"] == -1


def test_the_remedy_is_to_take_out_the_shift_that_made_the_fault(good_episodes):
    copied = changed(good_episodes, lambda action, state: action.__setitem__((slice(None), TARGET), state[:, JOINTS]))
    for spec, remedy in (("aloha", "Take shift_actions out"), ("aloha_sim", "Add {op: shift_observations, steps: 1}")):
        late = judged(copied, spec=load_spec(spec))["joint_targets_lag", SUBJECT]
        assert late.verdict == "fault" and late.remedy.startswith(remedy)


def test_a_leader_half_a_second_ahead_is_suspect_no_fault(good_episodes):
    def plant(action, state):
        joints = state[:, JOINTS]
        action[:-4, TARGET] = joints[4:]
        action[-4:, TARGET] = joints[-1]

    slower = [episode for episode in changed(good_episodes, plant)]
    for episode in slower:
        episode.control_hz = 5.0
    finding = found(slower, "joint_targets_lag")
    assert finding.verdict == "suspect" and finding.numbers["lag_steps"] == 3


def test_joints_that_stand_still_are_unknown(good_episodes):
    still = changed(good_episodes, lambda action, state: state.__setitem__((slice(None), JOINTS), 0.3))
    assert found(still).verdict == "unknown"


def recorded(file, columns, factor: float = 1.0):
    """An episode of a real robot's joints: LeRobot's `action` and `observation.state` in the slots of an arm."""
    table = pq.read_table(file)
    target, position = (np.array(table[key].to_pylist())[:, columns] for key in ("action", "observation.state"))
    action, state = np.zeros((len(target), 32), np.float32), np.zeros((len(target), 40), np.float32)
    action_mask, state_mask = np.zeros(32, bool), np.zeros(40, bool)
    used = slice(0, target.shape[1])
    action[:, TARGET[used]], state[:, JOINTS[used]] = target * factor, position * factor
    action_mask[TARGET[used]], state_mask[JOINTS[used]] = True, True
    vectors = {"action": action, "state": state, "action_mask": action_mask, "state_mask": state_mask}
    episode = make_episode(0, steps=len(target), cameras=(), control_hz=30.0)
    return replace(episode, **vectors, action_raw=target.astype(np.float32), state_raw=position.astype(np.float32))


def test_a_real_humanoid_arm_gives_no_alarm(real_data):
    files = sorted((real_data / "lerobot_v21_g1" / "data").rglob("*.parquet"))
    alarms = [
        f for f in judged([recorded(f, range(7, 14)) for f in files]).values() if f.verdict in ("suspect", "fault")
    ]
    assert alarms == []


def test_a_real_arm_in_degrees_is_a_fault_and_in_radians_none(real_data):
    (file,) = (real_data / "lerobot_v30_rebot" / "data").rglob("*.parquet")
    degrees = judged([recorded(file, range(6))])
    assert degrees["units", f"state {SUBJECT}"].verdict == "fault"
    assert "perhaps degrees" in degrees["units", f"state {SUBJECT}"].evidence
    radians = judged([recorded(file, range(6), np.pi / 180)])
    assert [f for f in radians.values() if f.verdict in ("suspect", "fault")] == []
    assert radians["joint_targets", SUBJECT].verdict == "ok"
