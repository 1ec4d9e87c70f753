"""All audits together: silent on good data, the same however the episodes are grouped, cheap on large data sets."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.quality.audits import Audits, measure
from oxe_pipeline.quality.flags import QUALITY_FLAGS
from schemas.spec import load_spec
from tests.conftest import ROOT
from tests.quality.motions import judged, robot_episodes
from tests.synthetic import make_episode

RECORDED = ("metaworld_bridge", "metaworld_libero")


def loud(found) -> list[str]:
    return [
        f"{f.verdict} {f.audit} {f.subject}: {f.evidence}" for f in found.values() if f.verdict in ("suspect", "fault")
    ]


def test_a_synthetic_robot_gives_no_alarm(good_episodes):
    assert loud(judged(good_episodes)) == []
    assert {measure(episode).flags for episode in good_episodes} == {()}


@pytest.mark.parametrize("name", RECORDED)
def test_the_recorded_samples_give_no_alarm(sample_episodes, name):
    assert loud(judged(sample_episodes[name], spec=load_spec(name))) == []
    assert {measure(episode).flags for episode in sample_episodes[name]} == {()}


def test_real_published_episodes_give_no_alarm_but_for_what_is_wrong_with_them(bridge_episodes):
    """This copy of BridgeData V2 was cut to the first 8 steps of each episode, so no step is marked as the last."""
    found = judged(bridge_episodes, spec=load_spec("bridge_dataset"), step_keys=("is_first", "is_last", "is_terminal"))
    (alarm,) = loud(found)
    assert alarm == "suspect step_flags episodes: of 25 episodes, 25 end without is_last, so they are cut short."
    assert found["gripper_polarity", "arm0.gripper"].verdict == "ok"


@pytest.mark.parametrize("name", RECORDED)
def test_conventions_of_the_samples_are_proven_not_merely_unrefuted(sample_episodes, name):
    found = judged(sample_episodes[name], spec=load_spec(name))
    proven = ["motion_axes", "motion_frame", "motion_lag", "motion_scale"]
    assert {found[audit, "arm0.eef_position_delta"].verdict for audit in proven} == {"ok"}
    assert found["gripper_polarity", "arm0.gripper"].verdict == "ok"


def test_sample_observations_two_rows_late_are_a_fault(sample_episodes):
    """Its simulated arm answers one step late by itself, so a single row more would pass for the arm's delay."""
    late = [
        dataclasses.replace(
            episode,
            action=episode.action[:-2],
            action_raw=episode.action_raw[:-2],
            state=episode.state[2:],
            state_raw=episode.state_raw[2:],
            images={},
        )
        for episode in sample_episodes["metaworld_libero"]
    ]
    found = judged(late)["motion_lag", "arm0.eef_position_delta"]
    assert found.verdict == "fault" and found.numbers["lag_steps"] == -1


@settings(max_examples=5)
@given(parts=st.integers(2, 12), order=st.randoms(use_true_random=False))
def test_any_grouping_and_order_gives_the_same_verdicts_and_evidence(parts, order):
    episodes = EPISODES[:]
    order.shuffle(episodes)
    expected, found = judged(EPISODES), judged(episodes, parts=parts)
    assert [f.to_dict() for f in found.values()] == [f.to_dict() for f in expected.values()]


EPISODES = robot_episodes(12, steps=30, cameras=("primary", "wrist"))


def test_a_record_keeps_everything():
    audits = Audits()
    for episode in EPISODES:
        audits.update(episode, measure(episode))
    assert Audits.from_dict(audits.to_dict()).to_dict() == audits.to_dict()


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_short_and_bare_episodes_are_measured_without_complaint(steps):
    short = make_episode(1, steps=steps)
    bare = dataclasses.replace(
        short,
        images={},
        action_raw=short.action_raw[:, :0],
        state_raw=short.state_raw[:, :0],
        state=np.zeros_like(short.state),
        state_mask=np.zeros(40, bool),
    )
    for episode in (short, bare):
        found = judged([episode])
        assert not {f.verdict for f in found.values() if f.audit.startswith(("motion", "gripper"))} - {"unknown"}


@pytest.mark.parametrize(("episodes_in_all", "share"), [(100, 1.0), (1280, 0.1), (1_000_000, 0.02)])
def test_conventions_are_looked_for_in_a_share_by_episode_alone_and_counts_in_all(episodes_in_all, share):
    episodes = [dataclasses.replace(EPISODES[0], episode_id=f"{number:016x}", images={}) for number in range(500)]
    measured = [measure(episode, episodes_in_all).sums for episode in episodes]
    looked_at = sum(("motion", "arm0.eef_position_delta") in sums for sums in measured)
    assert abs(looked_at - share * 500) <= 4 * np.sqrt(share * (1 - share) * 500)
    assert all(("idle_steps", "episodes") in sums for sums in measured)


def test_every_flag_that_is_set_is_documented():
    from oxe_pipeline.quality import camera_frames, counts, idle_steps, motion, step_flags

    set_somewhere = {*camera_frames.FLAGS.values(), idle_steps.FLAG, motion.FLAG, counts.DUPLICATE_FLAG, step_flags.CUT}
    assert set_somewhere | set(step_flags.FLAGS.values()) == set(QUALITY_FLAGS)


def test_every_audit_and_flag_is_in_the_page_about_them():
    page = (ROOT / "docs" / "audits.md").read_text()
    in_job = {"not_finite", "duplicate_episodes", "declared_episodes", "expected_episodes"}
    for name in {audit for audit, _ in judged(EPISODES)} | in_job | set(QUALITY_FLAGS):
        assert name in page, name


def test_findings_are_plain_json_with_few_digits():
    for finding in judged(EPISODES).values():
        content = finding.to_dict()
        assert set(content) == {"audit", "subject", "verdict", "evidence", "numbers", "remedy"}
        assert content["evidence"].endswith(".")
        assert (content["remedy"] != "") == (finding.verdict in ("suspect", "fault"))
        assert all(type(value) in (int, float, str) for value in content["numbers"].values())
