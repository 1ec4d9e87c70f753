"""is_first, is_last and is_terminal, in every wrong place."""

from dataclasses import replace

import numpy as np
import pytest

from oxe_pipeline.quality.step_flags import misplaced
from tests.quality.motions import judged

KEYS = ("is_first", "is_last", "is_terminal")


def column(*true_at, steps=5):
    values = np.zeros(steps, bool)
    values[list(true_at)] = True
    return values


@pytest.mark.parametrize(
    ("steps", "flags"),
    [
        ({"is_first": column(0), "is_last": column(4), "is_terminal": column(4)}, ()),
        ({"is_first": column(0), "is_last": column(4), "is_terminal": column()}, ()),
        ({}, ()),
        ({"is_first": column(0)[:, None], "is_last": column(4)[:, None]}, ()),
        ({"is_first": column(0, 3), "is_last": column(2, 4)}, ("is_first_misplaced", "is_last_misplaced")),
        ({"is_first": column(4), "is_last": column(0)}, ("is_first_misplaced", "is_last_misplaced")),
        ({"is_first": column()}, ("is_first_misplaced",)),
        ({"is_last": column()}, ("is_last_absent",)),
        ({"is_terminal": column(1, 2, 3, 4)}, ("is_terminal_misplaced",)),
        ({"is_first": [b"yes"] * 5}, ()),
    ],
)
def test_misplaced_flags_are_named(steps, flags):
    if "is_first" in steps and getattr(steps["is_first"], "ndim", 1) == 2:
        assert misplaced({key: values[:, 0] for key, values in steps.items()}) == flags
    assert misplaced(steps) == flags


@pytest.mark.parametrize(("wrong", "verdict"), [(0, "ok"), (1, "suspect"), (10, "fault")])
def test_one_episode_is_suspect_and_many_are_a_fault(good_episodes, wrong, verdict):
    planted = [
        replace(episode, quality_flags=("is_first_misplaced",) if number < wrong else ())
        for number, episode in enumerate(good_episodes)
    ]
    found = judged(planted, step_keys=KEYS)["step_flags", "episodes"]
    assert found.verdict == verdict and ("stands on a wrong step" in found.evidence) == (wrong > 0)
    assert "is_last stands" not in found.evidence and "is_terminal stands" not in found.evidence
    assert not wrong or f"of 30 episodes, is_first stands on a wrong step in {wrong}." == found.evidence


def test_episodes_that_are_cut_short_are_suspect_however_many(good_episodes):
    cut = [replace(episode, quality_flags=("is_last_absent",)) for episode in good_episodes]
    found = judged(cut, step_keys=KEYS)["step_flags", "episodes"]
    assert found.verdict == "suspect" and "30 end without is_last" in found.evidence


def test_a_source_without_flags_is_unknown(good_episodes):
    assert judged(good_episodes)["step_flags", "episodes"].verdict == "unknown"
