"""Audit of gripper commands: after "open" the gripper opens, after "close" it closes, and it is open when it is wide.

Whenever the command crosses the middle, the state a moment later is compared with the state now. Commands that change
too slowly to cross are judged by the correlation with the later state. That action and state agree does not prove which
way is open; where the state was measured as a width, that does.
"""

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding, Verdict
from oxe_pipeline.quality.tally import Sums, Tally
from schemas.operations import GripperWidth
from schemas.slots import ACTION_GROUPS, STATE_GROUPS

AUDIT, WIDTH_AUDIT = "gripper_polarity", "gripper_width"
TRAVEL_S = 0.8
"""A gripper closes in 0.2 to 1 s; by then it is well on its way."""
MOVED = 0.05
"""Change of the opening (0 to 1) that is more than noise; on a large object fingers close by little more."""
MIN_ANSWERS = 5
AGREE = 0.8
"""Share of the answers that must point one way: operators change their mind within TRAVEL_S now and then."""
MIN_STEPS, MIN_CORRELATION = 200, 0.4
"""Of command and later state, where the command never jumps."""
FINGERS_M = 0.11
"""Parallel grippers open by 0.04 (one finger of the Franka hand) to about 0.1 m; a raw column that follows the gripper
and stays within 0 and this is taken for a width."""
WIDTH_MATCH = 0.9


def measure(episode: Episode) -> dict[tuple[str, str], Sums]:
    """(audit, arm's gripper) -> sums. gripper_polarity: `answers` int [2, 3] (told to close or open; it closed, stayed
    or opened) and `moments` float64 [4] of command and later state. gripper_width: `moments` [S, 4] of each raw column
    and the gripper's state, and `outside` int [S], the steps at which the column is no width."""
    found: dict[tuple[str, str], Sums] = {}
    for arm in ("arm0", "arm1"):
        told, measured = ACTION_GROUPS[f"{arm}.gripper"].start, STATE_GROUPS[f"{arm}.gripper"].start
        if not episode.state_mask[measured]:
            continue
        state = episode.state[:, measured].astype(np.float64)
        if episode.action_mask[told]:
            sums = _answers(episode.action[:, told].astype(np.float64), state, episode.control_hz)
            found[AUDIT, f"{arm}.gripper"] = sums
        found[WIDTH_AUDIT, f"{arm}.gripper"] = _against_columns(state, episode.state_raw.astype(np.float64))
    return found


def _answers(command: np.ndarray, state: np.ndarray, control_hz: float) -> Sums:
    travel = max(1, round(TRAVEL_S * control_hz))
    later = np.minimum(np.arange(len(state)) + travel, len(state) - 1)
    answers = np.zeros((2, 3), np.int64)
    is_open = command > 0.5
    for step in np.flatnonzero(is_open[1:] != is_open[:-1]) + 1:
        change = state[later[step]] - state[step - 1]
        answers[int(is_open[step]), 1 + int(change > MOVED) - int(change < -MOVED)] += 1
    return {"answers": answers, "moments": _moments(command[:, None], state[later])[0]}


def _against_columns(state: np.ndarray, columns: np.ndarray) -> Sums:
    outside = (columns < -0.005) | (columns > FINGERS_M)
    return {"moments": _moments(columns, state), "outside": outside.sum(axis=0)}


def _moments(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """float64 [D, 4]: n, and the sums of squares and products of columns [T, D] and values [T] about their means."""
    columns, values = columns - columns.mean(axis=0), values - values.mean()
    products = [np.square(columns).sum(axis=0), np.full(columns.shape[1], np.square(values).sum()), values @ columns]
    return np.stack([np.full(columns.shape[1], float(len(values))), *products], axis=1)


def _correlation(moments: np.ndarray) -> np.ndarray:
    """Of moments [..., 4]; 0 where one of the two never changes."""
    size = np.sqrt(moments[..., 1] * moments[..., 2])
    return np.divide(moments[..., 3], size, out=np.zeros_like(size), where=size > 1e-9)


def judge(tally: Tally, declared: Declared) -> list[Finding]:
    """One finding per gripper and audit; gripper_width only where a raw column looks like a width."""
    found = [_polarity(gripper, sums) for gripper, sums in tally.of(AUDIT)]
    widths = (_width(gripper, sums, declared) for gripper, sums in tally.of(WIDTH_AUDIT))
    return found + [finding for finding in widths if finding]


def _polarity(gripper: str, sums: Sums) -> Finding:
    answers = sums["answers"]
    agree, oppose = int(answers[0, 0] + answers[1, 2]), int(answers[0, 2] + answers[1, 0])
    stayed, steps = int(answers[:, 1].sum()), int(sums["moments"][0])
    correlation = float(_correlation(sums["moments"]))
    numbers = {"agree": agree, "oppose": oppose, "no_answer": stayed, "correlation": correlation, "steps": steps}
    moved = agree + oppose
    told = (
        f"of {moved + stayed} commands to open or close, the gripper followed {agree}, did the opposite of {oppose}, "
        f"and did not move after {stayed}."
    )
    related = f"command and state {TRAVEL_S} s later correlate by {correlation:+.2f} ({steps:,} steps)."
    varies = sums["moments"][1:3].min() > MOVED**2 * steps
    verdict: Verdict
    if moved >= MIN_ANSWERS:
        verdict = "ok" if agree >= AGREE * moved else "fault" if oppose >= AGREE * moved else "suspect"
    elif steps >= MIN_STEPS and varies and abs(correlation) >= MIN_CORRELATION:
        verdict, told = ("ok" if correlation > 0 else "fault"), related
    else:
        return Finding(
            audit=AUDIT,
            subject=gripper,
            verdict="unknown",
            numbers=numbers,
            evidence=f"{told[:-1]}, and {related[:-1]}; {MIN_ANSWERS} answers are needed to tell.",
        )
    remedies = {
        "fault": "Invert the gripper's action or its state in the spec (op invert): 1 is open in both.",
        "suspect": "Look at the gripper in a few episodes: command and state do not belong together throughout.",
    }
    return Finding(
        audit=AUDIT, subject=gripper, verdict=verdict, evidence=told, numbers=numbers, remedy=remedies.get(verdict, "")
    )


def _width(gripper: str, sums: Sums, declared: Declared) -> Finding | None:
    correlations = _correlation(sums["moments"])
    alike = (np.abs(correlations) >= WIDTH_MATCH) & (sums["outside"] == 0)
    if not alike.any() or sums["moments"][0, 0] < MIN_STEPS:
        return None
    column = int(np.argmax(np.where(alike, np.abs(correlations), 0)))
    correlation = float(correlations[column])
    channel = declared.channel("state", gripper)
    known = channel is not None and any(isinstance(op, GripperWidth) for op in channel.ops)
    verdict: Verdict = "ok" if correlation > 0 else "fault" if known else "suspect"
    return Finding(
        audit=WIDTH_AUDIT,
        subject=gripper,
        verdict=verdict,
        evidence=(
            f"the state's opening and state_raw.{column}, which stays within 0 and {FINGERS_M} and "
            f"{'is' if known else 'looks like'} a width in metres, correlate by {correlation:+.2f}."
        ),
        numbers={"correlation": correlation, "column": column},
        remedy="" if correlation > 0 else "Invert the gripper in state and action (op invert): 1 is open.",
    )
