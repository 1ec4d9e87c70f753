"""Robots that stand still."""

from dataclasses import replace

import numpy as np

from oxe_pipeline.quality.audits import measure
from oxe_pipeline.quality.idle_steps import moving_steps
from tests.quality.motions import changed, judged


def stand_still(steps):
    def plant(action, state):
        state[:steps] = state[0]

    return plant


def test_a_moving_robot_is_ok(good_episodes):
    assert judged(good_episodes)["idle_steps", "episodes"].verdict == "ok"


def test_long_idling_is_suspect_with_its_share_and_the_episodes_carry_the_flag(good_episodes):
    planted = changed(good_episodes, stand_still(40))
    found = judged(planted)["idle_steps", "episodes"]
    assert found.verdict == "suspect" and found.numbers["idle"] == 39 * len(planted)
    assert found.numbers["idle_episodes"] == len(planted) and "--drop-idle" in found.remedy
    assert measure(planted[0]).flags == ("idle",)


def test_a_pause_is_no_fault(good_episodes):
    planted = changed(good_episodes, stand_still(15))
    assert judged(planted)["idle_steps", "episodes"].verdict == "ok"
    assert measure(planted[0]).flags == ()


def test_noise_below_the_limits_is_no_motion(good_episodes):
    def plant(action, state):
        rng = np.random.default_rng(0)
        state[:40, :3] = state[0, :3] + rng.normal(0, 1e-5, (40, 3))
        state[:40, 3:] = state[0, 3:]

    moving = moving_steps(changed(good_episodes[:1], plant)[0])
    assert moving[:39].sum() == 0 and moving[40:].mean() > 0.9


def test_without_states_it_is_unknown(good_episodes):
    blind = [replace(episode, state_mask=np.zeros(40, bool)) for episode in good_episodes]
    assert judged(blind)["idle_steps", "episodes"].verdict == "unknown"
