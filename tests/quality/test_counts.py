"""Copies, NaN, and episodes that are too few or too many."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.quality.checks import check_episode
from oxe_pipeline.quality.counts import (
    Source,
    content_hash,
    duplicates,
    judge_counts,
    judge_duplicates,
    judge_not_finite,
)
from tests.synthetic import make_episode


def test_copies_are_found_by_id_and_by_content_and_the_first_stays():
    assert duplicates([("a", "1"), ("b", "2"), ("a", "3"), ("c", "2"), ("d", ""), ("e", "")]) == [2, 3]


def test_content_is_states_and_actions_not_images():
    episode, other = make_episode(1), make_episode(2)
    again = replace(episode, images=other.images, episode_id="elsewhere")
    assert content_hash(episode) == content_hash(again) != content_hash(other)
    still = replace(episode, action=np.zeros_like(episode.action), state=np.zeros_like(episode.state))
    assert content_hash(still) == "", "two robots that do nothing are no copies of one another"
    blind = replace(still, action=episode.action, state_mask=np.zeros(40, bool), state_raw=episode.state_raw[:, :0])
    assert content_hash(blind) == "", "the same few commands may be given twice"


@pytest.mark.parametrize(("copies", "verdict"), [(0, "ok"), (1, "suspect"), (10, "fault")])
def test_one_copy_is_suspect_and_many_are_a_fault(copies, verdict):
    found = judge_duplicates(copies, 100, "abc")
    assert found.verdict == verdict and (not copies or "first abc" in found.evidence)


def test_nan_is_counted_from_the_very_reasons_that_the_checks_give():
    reasons = []
    for value in (np.nan, np.inf, -np.inf):
        episode = make_episode(3)
        episode.state[2, 1] = value
        with pytest.raises(DataError) as fault:
            check_episode(episode)
        reasons.append(fault.value.reason)
    episode = make_episode(3)
    episode.reward = np.full(len(episode), np.nan, np.float32)
    with pytest.raises(DataError) as fault:
        check_episode(episode)
    reasons.append(fault.value.reason)
    found = judge_not_finite([*reasons, "truncated JPEG: 17 bytes without an end marker"], 1000)
    assert found.numbers["set_aside"] == 4 and found.verdict == "suspect"
    assert judge_not_finite(reasons, 40).verdict == "fault"
    assert judge_not_finite(["truncated JPEG", "banana is at step 3"], 40).verdict == "ok"


def verdicts(source, **fields):
    return {finding.audit: finding for finding in judge_counts(source, Counter(fields))}


def test_all_that_is_declared_is_there():
    found = verdicts(Source(found=106, declared=100, set_aside_by_builder=6, expected={"train": 100, "val": 6}))
    assert {finding.verdict for finding in found.values()} == {"ok"}


def test_a_partial_copy_is_suspect_with_its_numbers():
    source = Source(found=25, declared=25, missing_files=1, expected={"train": 53192, "val": 6872})
    found = verdicts(source)
    assert found["declared_episodes"].verdict == found["expected_episodes"].verdict == "suspect"
    assert "absent: 1 file that it names" in found["declared_episodes"].evidence
    assert "25 of the 60,064" in found["expected_episodes"].evidence


def test_episodes_lost_in_damaged_files_are_a_fault():
    assert verdicts(Source(found=25, declared=25), record=3)["declared_episodes"].verdict == "fault"


def test_more_than_declared_is_suspect():
    found = verdicts(Source(found=30, declared=25, expected={"train": 25}))
    assert {finding.verdict for finding in found.values()} == {"suspect"}


def test_nothing_expected_is_unknown_and_only_the_splits_asked_for_count():
    assert verdicts(Source(found=5, declared=5))["expected_episodes"].verdict == "unknown"
    one = Source(found=6872, declared=6872, expected={"train": 53192, "val": 6872}, splits=("val",))
    assert verdicts(one)["expected_episodes"].verdict == "ok"
