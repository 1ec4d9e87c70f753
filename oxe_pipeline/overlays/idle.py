"""Idle steps: stretches in which the robot is told to stay where it is. Found from actions alone, without an image.

Teleoperated data is full of them (the operator thinks, resets a button, holds at the end), and a policy that learns
them learns to stop. openpi drops them as window starts from DROID: stretches of 7 idle steps or more, what is left
between them where it is shorter than 16 steps, and the last 10 steps of what stays, from where a chunk of actions would
be mostly idle. Here lengths are in seconds and speeds in units per second, so that one setting means the same at 3 Hz
and at 50 Hz.
"""

import numpy as np
from pydantic import Field

from oxe_pipeline.overlays.overlay import OverlayError
from oxe_pipeline.overlays.window_ranges import runs
from oxe_pipeline.stream.format import Manifest
from schemas.operations import Model
from schemas.slots import ACTION_NAMES, slot_unit
from schemas.spec_parts import Channel, slot_indices


class IdleRule(Model):
    """A step is idle when no slot of its action moves faster than its limit."""

    m_per_s: float = Field(default=0.01, gt=0)
    """Limit of each slot in metres."""
    rad_per_s: float = Field(default=0.05, gt=0)
    """Limit of each slot in radians."""
    gripper_per_s: float = Field(default=0.1, gt=0)
    """Limit of the gripper's opening, which is 0 to 1."""
    source_per_s: float | None = Field(default=None, gt=0)
    """Limit of slots whose unit the data set's spec does not state."""
    min_s: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Shorter stretches of idle steps are kept: a robot may pause."""
    keep_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Of each stretch, this much just before the motion goes on is kept."""
    before_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """This much before each stretch is dropped too."""
    min_motion_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """What is left beside dropped steps is dropped too where it is shorter."""


def speed_limits(manifest: Manifest, rule: IdleRule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(limit float64 [A], is_delta bool [A], is_velocity bool [A]) of the action columns of a stream; the rest is
    absolute. The terminate flag has no limit.

    Raises OverlayError where the unit of a slot is not stated and the rule has no limit for that, and for a stream
    whose action holds nothing that moves.
    """
    limits = {"m": rule.m_per_s, "m/s": rule.m_per_s, "rad": rule.rad_per_s, "rad/s": rule.rad_per_s}
    channels = action_channels(manifest.spec)
    limit = np.full(len(manifest.action_slots), np.inf)
    for column, slot in enumerate(manifest.action_slots):
        name, channel = ACTION_NAMES[slot], channels.get(slot)
        if name == "terminate":
            continue
        if name.endswith("gripper"):
            limit[column] = rule.gripper_per_s
        elif channel and channel.unit not in ("source", "1"):
            limit[column] = limits[slot_unit(name)]
        elif rule.source_per_s is not None:
            limit[column] = rule.source_per_s
        else:
            raise OverlayError(
                f"{manifest.dataset}: the spec does not state the unit of {name}, so no limit in metres or radians "
                "holds for it; say --idle-source-per-s, the speed below which it is idle, in the source's own unit"
            )
    if np.isinf(limit).all():
        raise OverlayError(f"{manifest.dataset}: its action has no slot that moves, so no step can be called idle")
    kinds = [channels[slot].kind if slot in channels else "absolute" for slot in manifest.action_slots]
    return limit, np.array([kind == "delta" for kind in kinds]), np.array([kind == "velocity" for kind in kinds])


def action_channels(spec: dict) -> dict[int, Channel]:
    """Action slot to the channel of a manifest's spec that fills it."""
    channels = [Channel.model_validate(content) for content in spec.get("action", ())]
    return {slot: channel for channel in channels for slot in slot_indices(channel.slots, "action")}


def action_speeds(
    action: np.ndarray, length: np.ndarray, rate_hz: np.ndarray, is_delta: np.ndarray, is_velocity: np.ndarray
) -> np.ndarray:
    """float64 [N, A]: how fast each slot of each action moves, in its unit per second.

    `action` float32 [N, A] of episodes of `length` int [E] steps, end to end, at `rate_hz` float [E]. A velocity is the
    speed itself, a delta is divided by the step's duration, an absolute target is compared with that of the step
    before; the first step of an episode, which has none before it, with that of the next.
    """
    action = action.astype(np.float64)
    change = np.zeros_like(action)
    change[1:] = action[1:] - action[:-1]
    first = (np.cumsum(length) - length)[length >= 1]
    is_single = length[length >= 1] == 1
    change[first] = np.where(is_single[:, None], 0.0, change[np.minimum(first + 1, len(action) - 1)])
    moved = np.where(is_delta | is_velocity, action, change)
    rate = np.repeat(rate_hz.astype(np.float64), length)[:, None]
    return np.abs(np.where(is_velocity, moved, moved * rate))


def moving_steps(idle: np.ndarray, length: np.ndarray, rate_hz: np.ndarray, rule: IdleRule) -> np.ndarray:
    """bool [N]: which steps the rule keeps, from which are `idle` bool [N]. Durations become whole steps, rounded up.

    The steps belong to episodes of `length` int [E] steps, end to end, at `rate_hz` float [E].
    """
    episode = np.repeat(np.arange(len(length)), length)
    episode_end = np.cumsum(length)
    episode_start = episode_end - length
    first, end = runs(idle, length)
    of = episode[first]
    long = idle[first] & (end - first >= np.maximum(_steps(rule.min_s, rate_hz), 1)[of])
    first, end, of = first[long], end[long], of[long]
    goes_on = end < episode_end[of]
    dropped_end = np.where(goes_on, np.maximum(end - _steps(rule.keep_s, rate_hz)[of], first), end)
    dropped_first = np.maximum(first - _steps(rule.before_s, rate_hz)[of], episode_start[of])
    kept = ~_covered(dropped_first, dropped_end, len(idle))
    first, end = runs(kept, length)
    of = episode[first]
    left_over = kept[first] & (end - first < length[of]) & (end - first < _steps(rule.min_motion_s, rate_hz)[of])
    return kept & ~_covered(first[left_over], end[left_over], len(idle))


def _steps(duration_s: float, rate_hz: np.ndarray) -> np.ndarray:
    """int64 [E]: the steps a duration takes, rounded up; a little off a whole number is that number."""
    return np.ceil(duration_s * rate_hz.astype(np.float64) - 1e-4).astype(np.int64)


def _covered(first: np.ndarray, end: np.ndarray, total: int) -> np.ndarray:
    """bool [total]: what lies within any of the stretches first[i] .. end[i]-1."""
    depth = np.bincount(first, minlength=total + 1) - np.bincount(end, minlength=total + 1)
    return np.cumsum(depth)[:total] > 0
