"""Units by physical limits, constant slots, outliers; thresholds against the published statistics of 38 data sets."""

import json
from dataclasses import replace

import numpy as np
import pytest

from oxe_pipeline.quality import ranges
from schemas.spec import load_spec
from tests.quality.motions import changed, group, judged

POSITION, DELTA = group("eef_position", "state"), group("eef_position_delta", "action")
JOINTS, TURN = group("joint_position", "state"), group("eef_rotation_delta", "action")


def test_metres_and_radians_are_ok(good_episodes):
    found = judged(good_episodes)
    subjects = ("arm0.eef_position", "arm0.eef_position_delta", "arm0.eef_rotation_delta")
    for subject in (*subjects, "action arm0.joint_position", "state arm0.joint_position"):
        assert found["units", subject].verdict == "ok", found["units", subject]


def scaled(vector, columns, factor):
    def plant(action, state):
        part = action if vector == "action" else state
        part[:, columns] *= factor

    return plant


@pytest.mark.parametrize(
    ("vector", "columns", "factor", "subject", "said"),
    [
        ("state", POSITION, 1000, "arm0.eef_position", "perhaps millimetres"),
        ("state", POSITION, 100, "arm0.eef_position", "perhaps centimetres or millimetres"),
        ("state", POSITION, 0.001, "arm0.eef_position", "larger unit than metres"),
        ("action", DELTA, 1000, "arm0.eef_position_delta", "no hand moves faster"),
        ("action", TURN, 180 / np.pi, "arm0.eef_rotation_delta", "perhaps degrees"),
        ("state", JOINTS, 180 / np.pi, "state arm0.joint_position", "perhaps degrees"),
        ("state", JOINTS, 4096 / (2 * np.pi), "state arm0.joint_position", "perhaps servo ticks"),
    ],
)
def test_another_unit_is_a_fault_that_says_which(good_episodes, vector, columns, factor, subject, said):
    found = judged(changed(good_episodes, scaled(vector, columns, factor)))["units", subject]
    assert found.verdict == "fault" and said in found.evidence and found.remedy


@pytest.mark.parametrize(("metres", "verdict"), [(0.0, "ok"), (4.0, "suspect"), (800.0, "fault")])
def test_a_hand_far_off_in_the_worlds_frame_may_have_been_driven_there(good_episodes, metres, verdict):
    far = changed(good_episodes, lambda action, state: state.__setitem__((slice(None), POSITION), metres + 0.2))
    spec = load_spec("maniskill3_ee_delta")
    assert judged(far, spec=spec)["units", "arm0.eef_position"].verdict == verdict
    assert judged(far)["units", "arm0.eef_position"].verdict == ("ok" if verdict == "ok" else "fault")


def test_an_action_that_the_spec_calls_absolute_has_no_usual_step(good_episodes):
    """Positions of a hand taken for steps would be 5 m/s, its orientation a jump in every step."""
    spec = load_spec("rh20t_as_octo")

    def plant(action, state):
        action[:, DELTA], action[:, TURN] = state[:, POSITION], (np.pi, 0, 0)

    found = judged(changed(good_episodes, plant), spec=spec)
    for audit, subject in (("units", "arm0.eef_position_delta"), ("rotation_jump", "arm0.eef_rotation_delta")):
        assert found[audit, subject].verdict == "unknown" and "absolute" in found[audit, subject].evidence


def test_raw_columns_are_described_and_never_blamed(good_episodes):
    ticks = np.round(2048 + 500 * np.sin(np.arange(len(good_episodes[0])) / 5))
    degrees = 170 * np.sin(np.arange(len(ticks)) / 5)
    raw = np.column_stack([ticks, degrees, np.zeros(len(ticks)), np.arange(len(ticks)) % 2]).astype(np.float32)
    found = judged([replace(episode, state_raw=raw) for episode in good_episodes])["units", "state_raw"]
    assert found.verdict == "ok"
    for part in (
        "like servo ticks: 0",
        "like degrees or centimetres: 1",
        "constant at 0: 2",
        "like a flag or a command: 3",
    ):
        assert part in found.evidence


def test_a_filled_slot_that_never_changes_is_suspect(good_episodes):
    zero = judged(changed(good_episodes, scaled("action", TURN, 0)))["constant_slots", "action"]
    assert zero.verdict == "suspect" and "arm0.eef_rotation_delta.x = 0" in zero.evidence
    joint = judged(changed(good_episodes, scaled("state", JOINTS[6:], 0)))["constant_slots", "state"]
    assert joint.verdict == "suspect" and "joint_position.j6 = 0" in joint.evidence


def test_a_hand_that_cannot_turn_is_no_filled_slot(good_episodes):
    def plant(action, state):
        state[:, group("eef_rotation_6d", "state")] = [1, 0, 0, 0, -1, 0]

    found = judged(changed(good_episodes, plant))["constant_slots", "state"]
    assert found.verdict == "ok" and found.numbers["constant"] == 6


def test_outliers_are_suspect_with_slot_and_values(good_episodes):
    def plant(action, state):
        action[5, DELTA[1]] = 22.0

    found = judged([*changed(good_episodes[:1], plant), *good_episodes[1:]])["outliers", "action"]
    assert found.verdict == "suspect" and "arm0.eef_position_delta.y from" in found.evidence and "22" in found.evidence


def test_few_values_are_unknown(good_episodes):
    assert judged(good_episodes[:2])["outliers", "action"].verdict == "unknown"


def test_the_threshold_names_the_data_sets_whose_outliers_are_known(real_data):
    """Published statistics: fractal's and dobbe's wild steps, bridge's unwrapped Euler differences, and little else."""
    published = json.loads((real_data / "oxe_statistics" / "openx_dataset_statistics.json").read_text())
    named = set()
    for name, content in published.items():
        numbers = content["action"]
        slots = {
            f"slot{i}": {key: numbers[key][i] for key in ("min", "max", "q01", "q99")} | {"count": 10**6}
            for i in range(6)
        }
        if ranges.outliers("action", slots).verdict == "suspect":
            named.add(name)
    assert {"fractal20220817_data", "bridge_orig", "dobbe"} <= named and len(named) <= 5
