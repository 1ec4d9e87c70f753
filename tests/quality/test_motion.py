"""Each convention of an end-effector action, broken on purpose in a robot that moves well, is found and named."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from oxe_pipeline.quality import motion
from oxe_pipeline.quality.orientation import turnings
from schemas.spec import load_spec
from tests.quality.motions import changed, group, judged

POSITION, ROTATION = "arm0.eef_position_delta", "arm0.eef_rotation_delta"
AUDITS = ("motion_axes", "motion_frame", "motion_lag", "motion_scale")
XYZ, TURN = group("eef_position_delta", "action"), group("eef_rotation_delta", "action")


def verdicts(episodes, subject=POSITION, **options) -> dict[str, str]:
    found = judged(episodes, **options)
    return {audit: found[audit, subject].verdict for audit in AUDITS}


@pytest.mark.parametrize("subject", [POSITION, ROTATION])
def test_a_robot_that_follows_its_commands_is_ok(good_episodes, subject):
    assert set(verdicts(good_episodes, subject).values()) == {"ok"}


@pytest.mark.parametrize(("subject", "columns"), [(POSITION, XYZ), (ROTATION, TURN)])
@pytest.mark.parametrize(
    ("order", "signs", "said"),
    [
        ((1, 0, 2), (1, 1, 1), "x of the action is y of the motion, y of the action is x of the motion"),
        ((0, 1, 2), (1, -1, 1), "y of the action is -y of the motion"),
        ((1, 2, 0), (1, 1, -1), "x of the action is y of the motion, y of the action is z of the motion, "),
    ],
)
def test_exchanged_or_reversed_axes_are_a_fault_that_names_them(good_episodes, subject, columns, order, signs, said):
    def plant(action, state):
        action[:, columns] = action[:, [columns[i] for i in order]] * np.array(signs)

    found = judged(changed(good_episodes, plant))["motion_axes", subject]
    assert found.verdict == "fault" and said in found.evidence
    assert found.numbers["match"] > 0.9 > found.numbers["match_as_declared"] + 0.3


@pytest.mark.parametrize("lag", [-3, -2, -1])
def test_motion_before_its_action_is_a_fault_with_its_lag_and_remedy(good_episodes, lag):
    def plant(action, state):
        action[:] = np.roll(action, -lag, axis=0)

    found = judged(changed(good_episodes, plant))["motion_lag", POSITION]
    assert found.verdict == "fault" and found.numbers["lag_steps"] == lag
    assert f"{{op: shift_observations, steps: {-lag}}}" in found.remedy


def test_a_late_answer_is_the_robots_own_up_to_the_time_that_robots_take(good_episodes):
    def plant(action, state):
        state[2:] = state[:-2].copy()

    found = judged(changed(good_episodes, plant))["motion_lag", POSITION]
    assert found.verdict == "ok" and found.numbers["lag_steps"] == 2 and "0.2 s" in found.evidence
    slow = [replace(episode, control_hz=3.0) for episode in changed(good_episodes, plant)]
    assert judged(slow)["motion_lag", POSITION].verdict == "suspect"


def test_an_exact_motion_that_stands_a_row_late_is_suspect(good_episodes):
    def plant(action, state):
        position = state[:, group("eef_position", "state")]
        achieved = np.vstack([np.diff(position, axis=0), np.zeros((1, 3))])
        action[:-1, XYZ] = achieved[1:]

    found = judged(changed(good_episodes, plant))["motion_lag", POSITION]
    assert found.verdict == "suspect" and found.numbers["lag_steps"] == 1 and "too exact" in found.evidence


@pytest.mark.parametrize("factor", [1000, 20, 1 / 1000])
def test_an_action_in_another_unit_is_a_fault_with_the_factor(good_episodes, factor):
    def plant(action, state):
        action[:, XYZ] *= factor

    found = judged(changed(good_episodes, plant))["motion_scale", POSITION]
    assert found.verdict == "fault" and found.numbers["gain"] == pytest.approx(0.95 / factor, rel=0.1)
    assert found.remedy


def test_degrees_are_found_in_rotations(good_episodes):
    def plant(action, state):
        action[:, TURN] = np.rad2deg(action[:, TURN])

    assert judged(changed(good_episodes, plant))["motion_scale", ROTATION].verdict == "fault"


def test_a_unit_that_no_source_states_is_reported_and_not_blamed(good_episodes):
    spec = load_spec("bridge_dataset").model_copy(update={"episode_ops": []})
    channels = [c.model_copy(update={"unit": "source", "frame": "source"}) for c in spec.action]
    found = judged(
        changed(good_episodes, lambda action, state: action.__imul__(30)),
        spec=spec.model_copy(update={"action": channels}),
    )["motion_scale", POSITION]
    assert found.verdict == "unknown" and "an action of 1 moves the hand by 0.03" in found.evidence


def in_tool_frame(action, state):
    columns = state[:, group("eef_rotation_6d", "state")].astype(np.float64)
    first, second = columns[:, :3], columns[:, 3:]
    matrices = np.stack([first, second, np.cross(first, second)], axis=2)
    for part in (XYZ, TURN):
        action[:, part] = np.einsum("tji,tj->ti", matrices, action[:, part])


@pytest.mark.parametrize("subject", [POSITION, ROTATION])
def test_actions_along_the_tools_axes_are_a_fault(good_episodes, subject):
    found = judged(changed(good_episodes, in_tool_frame))
    assert found["motion_frame", subject].verdict == "fault"
    assert "tool_to_base_frame" in found["motion_frame", subject].remedy
    assert found["motion_axes", subject].verdict == "ok", "the axes are right, in the tool's frame"


def test_one_spike_does_not_decide(good_episodes):
    def plant(action, state):
        action[10, XYZ] = [22.0, -5.0, 3.0]

    planted = changed(good_episodes, plant)
    assert set(verdicts(planted).values()) == {"ok"}
    assert motion.flags(planted[0]) == {"outlier"} and motion.flags(good_episodes[0]) == set()


def test_too_few_steps_and_actions_without_motion_are_unknown(good_episodes):
    few = judged(good_episodes[:1])["motion_lag", POSITION]
    assert few.verdict == "unknown" and "100 are needed" in few.evidence

    def stand_still(action, state):
        state[:, :3] = state[0, :3]

    found = judged(changed(good_episodes, stand_still))
    assert {found[audit, POSITION].verdict for audit in AUDITS} == {"unknown"}

    def unrelated(action, state):
        action[:, XYZ] = np.random.default_rng(int(1e6 * abs(state[0, 0]))).normal(0, 0.02, (len(action), 3))

    found = judged(changed(good_episodes, unrelated))
    assert {found[audit, POSITION].verdict for audit in AUDITS} == {"unknown"}


def test_planar_actions_are_judged_by_the_axes_they_have(good_episodes):
    def plant(action, state):
        action[:, XYZ[2]] = 0

    planar = []
    for episode in changed(good_episodes, plant):
        mask, state_mask = episode.action_mask.copy(), episode.state_mask.copy()
        mask[XYZ[2]] = False
        state_mask[2], state = False, episode.state.copy()
        state[:, 2] = 0
        planar.append(replace(episode, action_mask=mask, state_mask=state_mask, state=state))
    assert set(verdicts(planar).values()) == {"ok"}
    swapped = changed(planar, lambda action, state: action.__setitem__((slice(None), [0, 1]), action[:, [1, 0]]))
    assert judged(swapped)["motion_axes", POSITION].verdict == "fault"


def test_the_sums_agree_with_a_plain_loop(good_episodes):
    """An independent computation of one lag in the tool's frame."""
    episode, lag = good_episodes[0], 2
    sums = motion.measure(episode, turnings(episode))[POSITION]
    states = episode.state[:, :3].astype(float)
    columns = episode.state[:, group("eef_rotation_6d", "state")].astype(float)
    expected = np.zeros((3, 3))
    for step in range(len(episode) - lag - 1):
        at = step + lag
        matrix = np.stack([columns[at, :3], columns[at, 3:], np.cross(columns[at, :3], columns[at, 3:])], axis=1)
        moved = Rotation.from_matrix(matrix).inv().apply(states[at + 1] - states[at])
        expected += np.outer(episode.action[step, XYZ], moved)
    np.testing.assert_allclose(sums["cross"][1, motion.LAGS.index(lag)], expected, rtol=1e-5, atol=1e-9)
