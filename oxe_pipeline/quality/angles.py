"""Audit of angles: jumps by a whole turn where a raw angle wraps, and rotations that jump though no arm can.

Euler angles and joint readings that wrap at ±pi or 0..2 pi are right as recorded, but neither their mean nor their
differences mean anything: an action subtracted across a wrap is off by a turn.
"""

from collections.abc import Mapping

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding, Verdict, counted
from oxe_pipeline.quality.orientation import ARMS, Turning
from oxe_pipeline.quality.tally import Sums, Tally
from schemas.slots import ACTION_GROUPS, STATE_GROUPS

WRAP_AUDIT, JUMP_AUDIT = "angle_wrap", "rotation_jump"
TURNS = {"rad": 2 * np.pi, "degrees": 360.0}
NEAR_TURN = 0.15
"""A jump within this share of a whole turn is a wrap: at the wrap the angle itself moves by no more in a step."""
JUMP_RAD = np.pi / 2
"""No hand turns by 90 degrees between two steps at 3 Hz and more; conversions from a wrong order or unit do."""
USUAL_STEP_RAD = 0.5
"""Median of a hand's turning in one step, beyond which a jump is no exception and the rate is too low to tell."""


def measure(episode: Episode, turnings: Mapping[str, Turning]) -> dict[tuple[str, str], Sums]:
    """(audit, subject) -> sums. angle_wrap, of state_raw and action_raw: `wraps` int [2 units, D]. angle_wrap of
    joints and rotation_jump of orientations and rotation actions: `jumps` and `steps` int."""
    found: dict[tuple[str, str], Sums] = {}
    for vector in ("state_raw", "action_raw"):
        values = getattr(episode, vector)
        if values.shape[1]:
            found[WRAP_AUDIT, vector] = {"wraps": _wraps(values), "steps": len(values)}
    for arm in ARMS:
        joints = list(STATE_GROUPS[f"{arm}.joint_position"].indices)
        if episode.state_mask[joints].any():
            wraps = _wraps(episode.state[:, joints])[0]
            found[WRAP_AUDIT, f"{arm}.joint_position"] = {"jumps": int(wraps.sum()), "steps": len(episode)}
        if arm in turnings and len(episode) > 1:
            found[JUMP_AUDIT, f"{arm}.eef_rotation_6d"] = _jumps(turnings[arm].turned)
        turn = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
        if episode.action_mask[turn].all():
            found[JUMP_AUDIT, f"{arm}.eef_rotation_delta"] = _jumps(episode.action[:, turn])
    return found


def _wraps(values: np.ndarray) -> np.ndarray:
    """int [2, D]: jumps by nearly a turn, in radians and in degrees, of columns that stay within a turn either way."""
    change = np.abs(values[1:] - values[:-1])
    if not (change >= (1 - NEAR_TURN) * min(TURNS.values())).any():
        return np.zeros((len(TURNS), values.shape[1]), np.int64)
    size = np.abs(values).max(axis=0)
    counts = []
    for turn in TURNS.values():
        wraps = (np.abs(change - turn) <= NEAR_TURN * turn).sum(axis=0)
        if wraps.any():
            wraps = np.where((size <= 1.02 * turn) & (np.median(change, axis=0) <= NEAR_TURN * turn), wraps, 0)
        counts.append(wraps)
    return np.array(counts)


def _jumps(rotation_vectors: np.ndarray) -> Sums:
    squares = np.einsum("ti,ti->t", rotation_vectors, rotation_vectors)
    return {
        "jumps": int(np.count_nonzero(squares > JUMP_RAD**2)),
        "fast": int(np.count_nonzero(squares > USUAL_STEP_RAD**2)),
        "steps": len(squares),
    }


def judge(tally: Tally, declared: Declared) -> list[Finding]:
    """angle_wrap for each raw vector and each arm's joints, rotation_jump for each orientation and rotation action."""
    found = []
    for subject, sums in tally.of(WRAP_AUDIT):
        found.append(_raw_wrap(subject, sums) if "wraps" in sums else _joint_wrap(subject, sums))
    return found + [_jump(subject, sums, declared) for subject, sums in tally.of(JUMP_AUDIT)]


def _raw_wrap(vector: str, sums: Sums) -> Finding:
    wraps, steps = sums["wraps"], int(sums["steps"])
    columns = np.flatnonzero(wraps.sum(axis=0))
    if not len(columns):
        evidence = f"no column jumps by a whole turn in {steps:,} steps."
        return Finding(audit=WRAP_AUDIT, subject=vector, verdict="ok", evidence=evidence, numbers={"wraps": 0})
    units = [list(TURNS)[int(np.argmax(wraps[:, column]))] for column in columns]
    what = ", ".join(
        f"column {column} by a whole turn in {unit} {counted(int(wraps[:, column].sum()), 'time')}"
        for column, unit in zip(columns, units, strict=True)
    )
    return Finding(
        audit=WRAP_AUDIT,
        subject=vector,
        verdict="suspect",
        evidence=f"in {steps:,} steps, jumps of {what}.",
        numbers={"wraps": int(wraps.sum()), "columns": len(columns), "steps": steps},
        remedy="Train on the unified slots, whose rotations do not wrap; never subtract these columns.",
    )


def _joint_wrap(group: str, sums: Sums) -> Finding:
    jumps, steps = int(sums["jumps"]), int(sums["steps"])
    verdict: Verdict = "ok"
    evidence = f"no joint jumps by a whole turn in {steps:,} steps."
    if jumps:
        verdict, evidence = "fault", f"joints jump by a whole turn {counted(jumps, 'time')} in {steps:,} steps."
    return Finding(
        audit=WRAP_AUDIT,
        subject=group,
        verdict=verdict,
        evidence=evidence,
        numbers={"wraps": jumps, "steps": steps},
        remedy="Unwrap the joint's readings in the reader." if jumps else "",
    )


def _jump(subject: str, sums: Sums, declared: Declared) -> Finding:
    jumps, fast, steps = (int(sums[key]) for key in ("jumps", "fast", "steps"))
    numbers = {"jumps": jumps, "steps": steps}
    if subject in ACTION_GROUPS and not declared.is_relative(subject):
        evidence = "the spec calls this action absolute; only turns from step to step have a usual size."
        return Finding(audit=JUMP_AUDIT, subject=subject, verdict="unknown", evidence=evidence, numbers=numbers)
    if 2 * fast > steps and steps:
        evidence = f"half of the steps turn by more than {USUAL_STEP_RAD} rad; a jump cannot be told from a motion."
        return Finding(audit=JUMP_AUDIT, subject=subject, verdict="unknown", evidence=evidence, numbers=numbers)
    if not jumps:
        evidence = f"no step of {steps:,} turns by more than {JUMP_RAD:.2f} rad."
        return Finding(audit=JUMP_AUDIT, subject=subject, verdict="ok", evidence=evidence, numbers=numbers)
    return Finding(
        audit=JUMP_AUDIT,
        subject=subject,
        verdict="fault",
        numbers=numbers,
        evidence=f"{jumps:,} of {steps:,} steps turn by more than {JUMP_RAD:.2f} rad, half under {USUAL_STEP_RAD}.",
        remedy="Check the form and unit of the rotation in the spec; differences of angles need wrapping.",
    )
