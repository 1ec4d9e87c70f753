"""Audit of angles: jumps by a whole turn where a raw angle wraps, and rotations that jump though no arm can.

Euler angles and joint readings that wrap at ±pi or 0..2 pi are right as recorded, but neither their mean nor their
differences mean anything: an action subtracted across a wrap is off by a turn.
"""

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding, Verdict
from oxe_pipeline.quality.orientation import orientations, turns
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


def measure(episode: Episode) -> dict[tuple[str, str], Sums]:
    """(audit, subject) -> sums. angle_wrap, of state_raw and action_raw: `wraps` int [2 units, D]. angle_wrap of
    joints and rotation_jump of orientations and rotation actions: `jumps` and `steps` int."""
    found: dict[tuple[str, str], Sums] = {}
    for vector in ("state_raw", "action_raw"):
        values = getattr(episode, vector)
        if values.shape[1]:
            found[WRAP_AUDIT, vector] = {"wraps": _wraps(values), "steps": len(values)}
    for arm in ("arm0", "arm1"):
        joints = list(STATE_GROUPS[f"{arm}.joint_position"].indices)
        if episode.state_mask[joints].any():
            wraps = _wraps(episode.state[:, joints])[0]
            found[WRAP_AUDIT, f"{arm}.joint_position"] = {"jumps": int(wraps.sum()), "steps": len(episode)}
        matrices = orientations(episode, arm)
        if matrices is not None and len(episode) > 1:
            turned = np.linalg.norm(turns(matrices), axis=1)
            found[JUMP_AUDIT, f"{arm}.eef_rotation_6d"] = _jumps(turned)
        turn = list(ACTION_GROUPS[f"{arm}.eef_rotation_delta"].indices)
        if episode.action_mask[turn].all():
            found[JUMP_AUDIT, f"{arm}.eef_rotation_delta"] = _jumps(np.linalg.norm(episode.action[:, turn], axis=1))
    return found


def _wraps(values: np.ndarray) -> np.ndarray:
    """int [2, D]: jumps by nearly a turn, in radians and in degrees, of columns that stay within a turn either way."""
    change, size = np.abs(np.diff(values, axis=0)), np.abs(values).max(axis=0)
    counts = []
    for turn in TURNS.values():
        wraps = (np.abs(change - turn) <= NEAR_TURN * turn).sum(axis=0)
        if wraps.any():
            wraps = np.where((size <= 1.02 * turn) & (np.median(change, axis=0) <= NEAR_TURN * turn), wraps, 0)
        counts.append(wraps)
    return np.array(counts)


def _jumps(turned: np.ndarray) -> Sums:
    return {
        "jumps": int((turned > JUMP_RAD).sum()),
        "fast": int((turned > USUAL_STEP_RAD).sum()),
        "steps": len(turned),
    }


def judge(tally: Tally, declared: Declared) -> list[Finding]:
    """angle_wrap for each raw vector and each arm's joints, rotation_jump for each orientation and rotation action."""
    found = []
    for subject, sums in tally.of(WRAP_AUDIT):
        found.append(_raw_wrap(subject, sums) if "wraps" in sums else _joint_wrap(subject, sums))
    return found + [_jump(subject, sums) for subject, sums in tally.of(JUMP_AUDIT)]


def _raw_wrap(vector: str, sums: Sums) -> Finding:
    wraps, steps = sums["wraps"], int(sums["steps"])
    columns = np.flatnonzero(wraps.sum(axis=0))
    if not len(columns):
        evidence = f"no column jumps by a whole turn in {steps:,} steps."
        return Finding(audit=WRAP_AUDIT, subject=vector, verdict="ok", evidence=evidence, numbers={"wraps": 0})
    units = [list(TURNS)[int(np.argmax(wraps[:, column]))] for column in columns]
    what = ", ".join(
        f"column {column} {int(wraps[:, column].sum())} time(s) by a turn in {unit}"
        for column, unit in zip(columns, units, strict=True)
    )
    return Finding(
        audit=WRAP_AUDIT,
        subject=vector,
        verdict="suspect",
        evidence=f"in {steps:,} steps jumps {what}.",
        numbers={"wraps": int(wraps.sum()), "columns": len(columns), "steps": steps},
        remedy="Train on the unified slots, whose rotations do not wrap; never subtract these columns.",
    )


def _joint_wrap(group: str, sums: Sums) -> Finding:
    jumps, steps = int(sums["jumps"]), int(sums["steps"])
    verdict: Verdict = "ok"
    evidence = f"no joint jumps by a whole turn in {steps:,} steps."
    if jumps:
        verdict, evidence = "fault", f"joints jump by a whole turn {jumps} time(s) in {steps:,} steps."
    return Finding(
        audit=WRAP_AUDIT,
        subject=group,
        verdict=verdict,
        evidence=evidence,
        numbers={"wraps": jumps, "steps": steps},
        remedy="Unwrap the joint's readings in the reader." if jumps else "",
    )


def _jump(subject: str, sums: Sums) -> Finding:
    jumps, fast, steps = (int(sums[key]) for key in ("jumps", "fast", "steps"))
    numbers = {"jumps": jumps, "steps": steps}
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
        evidence=f"{jumps} of {steps:,} steps turn by more than {JUMP_RAD:.2f} rad, the others hardly.",
        remedy="Check the form and unit of the rotation in the spec; differences of angles need wrapping.",
    )
