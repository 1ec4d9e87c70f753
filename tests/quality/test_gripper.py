"""Gripper polarity: command against state, state against width, each way round."""

from dataclasses import replace

import numpy as np
import pytest

from tests.quality.motions import changed, group, judged

COMMAND, OPENING = group("gripper", "action"), group("gripper", "state")
POLARITY, WIDTH = ("gripper_polarity", "arm0.gripper"), ("gripper_width", "arm0.gripper")


def test_a_gripper_that_obeys_is_ok_and_its_width_proves_which_way_is_open(good_episodes):
    found = judged(good_episodes)
    assert found[POLARITY].verdict == found[WIDTH].verdict == "ok"
    assert found[POLARITY].numbers["agree"] == 2 * len(good_episodes)


@pytest.mark.parametrize("which", ["action", "state"])
def test_one_of_command_and_state_inverted_is_a_fault(good_episodes, which):
    def plant(action, state):
        part, columns = (action, COMMAND) if which == "action" else (state, OPENING)
        part[:, columns] = 1 - part[:, columns]

    found = judged(changed(good_episodes, plant))[POLARITY]
    assert found.verdict == "fault" and "did the opposite of 60" in found.evidence and "invert" in found.remedy


def test_both_inverted_agree_but_contradict_the_width(good_episodes):
    def plant(action, state):
        action[:, COMMAND], state[:, OPENING] = 1 - action[:, COMMAND], 1 - state[:, OPENING]

    found = judged(changed(good_episodes, plant))
    assert found[POLARITY].verdict == "ok"
    assert found[WIDTH].verdict == "suspect" and found[WIDTH].numbers["correlation"] < -0.99


@pytest.mark.parametrize(("sign", "verdict"), [(1, "ok"), (-1, "fault")])
def test_commands_that_change_too_slowly_to_cross_the_middle_are_judged_by_correlation(good_episodes, sign, verdict):
    def plant(action, state):
        wave = 0.2 * np.sin(np.arange(len(action)) / 6)
        action[:, COMMAND[0]] = 0.25 + sign * wave
        state[:, OPENING[0]] = 0.25 + 0.2 * np.sin((np.arange(len(action)) - 6) / 6)

    assert judged(changed(good_episodes, plant))[POLARITY].verdict == verdict


def test_noise_of_a_gripper_that_rests_is_no_answer(good_episodes):
    """Command and state creep apart by a hundredth, as a warm motor's do; neither opens or closes anything."""

    def plant(action, state):
        wave = 0.01 * np.sin(np.arange(len(action)) / 6)
        action[:, COMMAND[0]], state[:, OPENING[0]] = 0.9 + wave, 0.9 - wave

    assert judged(changed(good_episodes, plant))[POLARITY].verdict == "unknown"


def test_a_gripper_that_never_moves_is_unknown_and_says_why(good_episodes):
    found = judged(changed(good_episodes, lambda action, state: state.__setitem__((slice(None), OPENING), 1.0)))
    assert found[POLARITY].verdict == "unknown" and "did not move after 60" in found[POLARITY].evidence
    assert WIDTH not in found


def test_without_a_gripper_state_nothing_is_said(good_episodes):
    mask = good_episodes[0].state_mask.copy()
    mask[OPENING] = False
    assert POLARITY not in judged([replace(episode, state_mask=mask) for episode in good_episodes])


def test_answers_of_both_kinds_are_suspect(good_episodes):
    half = changed(
        good_episodes[::2], lambda action, state: action.__setitem__((slice(None), COMMAND), 1 - action[:, COMMAND])
    )
    assert judged([*half, *good_episodes[1::2]])[POLARITY].verdict == "suspect"
