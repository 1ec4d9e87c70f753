"""Audit of joint targets: the joints go to where the action says, soon after it says so, in its unit and order.

The target of each step is compared with the positions of the steps around it (lag -3 to 3), joint by joint. Traded
away: joints that hardly move say nothing, and a leader arm that is far ahead of its follower looks like a long delay.
"""

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding, Verdict, counted
from oxe_pipeline.quality.motion import LAGS, MIN_STEPS
from oxe_pipeline.quality.motion_verdicts import MAX_DELAY_S, MIN_PAIRS, UNEXPLAINED_RATIO
from oxe_pipeline.quality.tally import Sums, Tally
from schemas.slots import ACTION_GROUPS, STATE_GROUPS

AUDIT = "joint_targets"
MOVES_RAD2 = 1e-4
"""Mean square motion about the episode's mean (0.01 rad) below which a joint stands still."""
FOLLOWS = 0.8
"""Correlation of a joint with its own target. Position controllers reach 0.95 and more."""
MOST_SLOPE = 2.0
"""A joint covers 0.5 to 1.1 of its target's range; in degrees, ticks or normalised values it is far from that."""
ACAUSAL_RATIO = 0.25
"""A target that fits an earlier position so much better than the next one was copied from the state."""


def measure(episode: Episode) -> dict[str, Sums]:
    """Slot group -> sums about the episode's means, float64: `target` and `position` [7] of squares, `cross` [7, 7] of
    target times position, `error` [lags, 7] of target t less position t+1+lag; `pairs` int [lags], `steps`."""
    found: dict[str, Sums] = {}
    if len(episode) < MIN_STEPS:
        return found
    for arm in ("arm0", "arm1"):
        told = list(ACTION_GROUPS[f"{arm}.joint_position"].indices)
        measured = list(STATE_GROUPS[f"{arm}.joint_position"].indices)
        both = episode.action_mask[told] & episode.state_mask[measured]
        if both.any():
            target = np.where(both, episode.action[:, told], 0.0).astype(np.float64)
            position = np.where(both, episode.state[:, measured], 0.0).astype(np.float64)
            found[f"{arm}.joint_position"] = _sums(target - target.mean(axis=0), position - position.mean(axis=0))
    return found


def _sums(target: np.ndarray, position: np.ndarray) -> Sums:
    steps = len(target)
    later = np.arange(steps) + 1 + np.array(LAGS)[:, None]
    inside = (later >= 0) & (later < steps)
    pairs = inside.sum(axis=1)
    error = np.where(inside[..., None], target - position[np.clip(later, 0, steps - 1)], 0.0)
    return {
        "target": np.square(target).sum(axis=0),
        "position": np.square(position).sum(axis=0),
        "cross": target[:-1].T @ position[1:],
        "error": np.square(error).sum(axis=1) - np.square(error.sum(axis=1)) / pairs[:, None],
        "pairs": pairs,
        "steps": steps,
    }


def judge(tally: Tally, declared: Declared) -> list[Finding]:
    """Three findings an arm: joint_targets (order and sign), joint_targets_scale, joint_targets_lag."""
    found = []
    for group, sums in tally.of(AUDIT):
        moving = (sums["position"] > MOVES_RAD2 * sums["steps"]) & (sums["target"] > 0)
        channel = declared.channel("action", group)
        reason = ""
        if channel is not None and not declared.is_target(group):
            reason = f"the action is a {channel.kind}, no target."
        elif int(sums["steps"]) < MIN_PAIRS or not moving.any():
            reason = f"{counted(int(moving.sum()), 'moving joint')} in {counted(int(sums['steps']), 'step')}; "
            reason += f"at least one and {MIN_PAIRS} steps are needed to tell."
        if reason:
            found.append(Finding(audit=AUDIT, subject=group, verdict="unknown", evidence=reason))
            continue
        found.append(_order(group, sums, moving))
        if found[-1].verdict == "ok":
            found += [_scale(group, sums, moving, declared), _lag(group, sums, moving, declared)]
    return found


def _order(group: str, sums: Sums, moving: np.ndarray) -> Finding:
    size = np.sqrt(sums["target"][:, None] * sums["position"][None])
    correlation = np.divide(sums["cross"], size, out=np.zeros_like(size), where=size > 0)
    own = np.diag(correlation)
    worst = int(np.argmin(np.where(moving, own, np.inf)))
    numbers = {"joints": int(moving.sum()), "correlation": float(own[moving].mean()), "lowest": float(own[worst])}
    if own[worst] >= FOLLOWS:
        evidence = (
            f"all {int(moving.sum())} joints that move follow their own target: correlation {own[worst]:.2f} or more."
        )
        return Finding(audit=AUDIT, subject=group, verdict="ok", evidence=evidence, numbers=numbers)
    other = int(np.argmax(np.where(np.arange(len(own)) == worst, -1, np.abs(correlation[worst]))))
    verdict: Verdict
    if own[worst] <= -FOLLOWS:
        verdict, what = "fault", f"joint {worst} moves against its target (correlation {own[worst]:+.2f})."
    elif correlation[worst, other] >= FOLLOWS and own[worst] < FOLLOWS - 0.3:
        verdict = "fault"
        what = (
            f"joint {other} follows the target of joint {worst} ({correlation[worst, other]:+.2f}), but joint {worst} "
        )
        what += f"does not ({own[worst]:+.2f})."
    else:
        verdict, what = (
            "unknown",
            f"joint {worst} follows its target by {own[worst]:+.2f} only; {FOLLOWS} would tell.",
        )
    remedy = "Put order and sign of the joints right in the spec." if verdict == "fault" else ""
    return Finding(audit=AUDIT, subject=group, verdict=verdict, evidence=what, numbers=numbers, remedy=remedy)


def _scale(group: str, sums: Sums, moving: np.ndarray, declared: Declared) -> Finding:
    """Targets against positions by the ratio of their ranges, the median of the joints."""
    slope = float(np.median(np.sqrt(sums["target"][moving] / sums["position"][moving])))
    audit, numbers = f"{AUDIT}_scale", {"slope": slope}
    evidence = f"targets range {slope:.3g} times as far as positions."
    if 1 / MOST_SLOPE <= slope <= MOST_SLOPE:
        return Finding(audit=audit, subject=group, verdict="ok", evidence=evidence, numbers=numbers)
    like = " (180/pi is 57.3: degrees)" if 40 < slope < 80 or 40 < 1 / slope < 80 else ""
    return Finding(
        audit=audit,
        subject=group,
        verdict="fault",
        numbers=numbers,
        evidence=f"{evidence[:-1]}{like}: not the same unit.",
        remedy="Scale action or state in the spec to radians.",
    )


def _lag(group: str, sums: Sums, moving: np.ndarray, declared: Declared) -> Finding:
    share = sums["error"] / np.maximum(sums["pairs"], 1)[:, None] / (sums["position"] / sums["steps"] + 1e-12)
    error = share[:, moving].mean(axis=1)
    number, at_0 = int(error.argmin()), LAGS.index(0)
    lag, left = LAGS[number], float(error[number] / max(error[at_0], 1e-12))
    audit, numbers = f"{AUDIT}_lag", {"lag_steps": lag, "error_over_lag_0": left}
    late_s = lag / declared.control_hz
    verdict: Verdict = "ok"
    if lag < 0 and left <= ACAUSAL_RATIO:
        verdict = "fault"
        what = "the present state itself" if lag == -1 else f"the state {counted(-lag - 1, 'step')} before"
        evidence = f"the target is {what}: it is {left:.2g} times as far from it as from the next state (mean square)."
        remedy = declared.late_observations_remedy(-lag)
    elif lag > 0 and left <= UNEXPLAINED_RATIO and late_s > MAX_DELAY_S + 1e-9:
        verdict = "suspect"
        evidence = f"the joints reach their target {counted(lag, 'step')} late ({late_s:.2g} s), "
        evidence += "longer than a controller takes."
        remedy = declared.early_actions_remedy()
    else:
        evidence = f"targets are reached in the next step, or {lag} later at best (error {left:.2g} of that at lag 0)."
        remedy = ""
        if lag <= 0:
            evidence = "targets are nearest to the state of the next step, or as near to it as to the present one."
    return Finding(audit=audit, subject=group, verdict=verdict, evidence=evidence, numbers=numbers, remedy=remedy)
