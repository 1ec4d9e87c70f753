"""Specs of published data against what a loader measured in real copies of 38 of them, after OpenVLA's transforms:
counts of episodes, and whether the numbers that a spec passes on as a displacement can be one."""

import json
import math

import numpy as np
import pytest

from schemas.operations import Scale
from schemas.spec import DatasetSpec, load_spec
from schemas.spec_parts import Channel, slot_indices

COMPUTED = {"action_from_state", "target_to_delta", "delta_of_targets"}
"""Operations after which the arm's motion is no longer the number that the source stores."""


@pytest.fixture(scope="module")
def statistics(real_data):
    """What OpenVLA's loader counted and measured in real copies of 38 data sets."""
    return json.loads((real_data / "oxe_statistics" / "openx_dataset_statistics.json").read_text())


def test_declared_episodes_are_those_counted_in_real_copies(statistics):
    counted_otherwise = {
        "kuka",  # only successes
        "fmb_dataset",  # one episode more
        "nyu_door_opening_surprising_effectiveness",  # each episode twice
        "columbia_cairlab_pusht_real",  # each episode twice
    }
    for name in set(statistics) - counted_otherwise:
        declared = load_spec(name).expected_episodes
        assert sum(declared.values()) == statistics[name]["num_trajectories"], name


def test_what_the_arm_of_cmu_stretch_lacks_is_zero_in_real_copies(statistics):
    action = statistics["cmu_stretch"]["action"]
    masked = [i for i in range(7) if i not in load_spec("cmu_stretch").action_indices()]
    assert masked == [1, 3, 4, 5]
    assert [action["min"][i] for i in masked] == [action["max"][i] for i in masked] == [0] * 4


def passed_on(spec: DatasetSpec, quantity: str) -> list[Channel]:
    """Channels of the first arm whose displacement is the source's own number, in another unit at most."""
    if COMPUTED & {op.op for op in spec.episode_ops}:
        return []
    return [channel for channel in spec.action if str(channel.slots).startswith(f"arm0.eef_{quantity}_delta")]


def extremes(channel: Channel, measured: dict, *ends: str) -> np.ndarray:
    """Sizes of the named statistics in the channel's columns, as the spec scales them: [ends, columns]."""
    factor = np.prod([op.factor for op in channel.ops if isinstance(op, Scale)])
    columns = slot_indices(channel.slots, "action")
    return np.abs([measured["action"][end] for end in ends])[:, columns] * factor


def test_what_is_called_metres_can_be_the_motion_of_one_step(statistics):
    """An absolute pose that is taken for a displacement is far larger (utokyo_pr2, toto, ucsd_kitchen)."""
    checked = 0
    for name, measured in statistics.items():
        for channel in passed_on(load_spec(name), "position"):
            if channel.unit != "m":
                continue
            largest = extremes(channel, measured, "q01", "q99").max()
            assert largest < 0.5, f"{name}: {largest:.2f} m in one step"
            checked += 1
    assert checked >= 5


def test_no_rotation_that_is_passed_on_jumps_where_an_angle_wraps(statistics):
    """A difference of angles that were subtracted like lengths reaches 2 pi (nyu_franka_play, bridge)."""
    checked = 0
    for name, measured in statistics.items():
        for channel in passed_on(load_spec(name), "rotation"):
            largest = extremes(channel, measured, "min", "max").max()
            assert largest < 1.5 * math.pi, f"{name}: a turn of {largest:.2f}"
            checked += 1
    assert checked >= 15
