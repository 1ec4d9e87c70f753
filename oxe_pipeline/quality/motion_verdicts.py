"""What the match of action and motion says of a data set's conventions: axes, frame, lag and scale.

One verdict each, since each has its own remedy. Where the match is too weak to tell, all four say so.
"""

from dataclasses import replace

from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding, Numbers, Verdict, counted
from oxe_pipeline.quality.motion import AUDIT, LAGS, Match, best_match
from oxe_pipeline.quality.tally import Tally
from schemas.slots import ACTION_GROUPS

MATCH = 0.5
"""Mean correlation over the axes from which a match is taken for one. Controllers that lag, saturate or are pushed
reach 0.6 to 1; unrelated columns stay within 0.2 of 0."""
UNEXPLAINED_RATIO = 0.6
"""Another lag is believed when it leaves at most this share of what lag 0 leaves unexplained: smooth motion matches its
neighbours nearly as well, but only nearly."""
MAX_DELAY_S = 0.4
"""Arms answer within a few tenths of a second (the WidowX of Bridge in about one step of 0.2 s)."""
EXACT_MATCH = 0.999
"""A match so close at a later step is no robot's answer, which has noise, but a computed column that was moved."""
LEAST_GAIN, LEAST_USUAL_GAIN, MOST_USUAL_GAIN, MOST_GAIN = 0.06, 0.12, 3.0, 10.0
"""Displacement over command. Soft operational-space controllers (robosuite, LIBERO) cover about a quarter of what they
are told in a step; actions left in -1..1 where 1 is 0.05 m or less, millimetres and degrees fall far outside."""
MIN_PAIRS = 100
"""Pairs of action and displacement below which nothing is said: chance then matches up to about 0.3."""
COMPUTED = "The spec computes this action from the states, so this says nothing of the recorded command."


def judge(tally: Tally, declared: Declared) -> list[Finding]:
    """Four findings a slot group: motion_axes, motion_frame, motion_lag, motion_scale."""
    found = []
    for group, sums in tally.of(AUDIT):
        match, pairs = best_match(sums), int(sums["pairs"][LAGS.index(0)])
        if reason := _cannot_tell(match, pairs, group, declared):
            numbers = {"pairs": pairs, "match": match.score}
            found += [
                Finding(audit=f"motion_{what}", subject=group, verdict="unknown", evidence=reason, numbers=numbers)
                for what in ("axes", "frame", "lag", "scale")
            ]
        else:
            verdicts = [_axes(group, match, pairs), _frame(group, match, declared)]
            verdicts += [_lag(group, match, declared), _scale(group, match, declared)]
            if declared.is_computed_from_state(group):
                verdicts = [replace(finding, evidence=f"{finding.evidence} {COMPUTED}") for finding in verdicts]
            found += verdicts
    return found


def _cannot_tell(match: Match, pairs: int, group: str, declared: Declared) -> str:
    """Why nothing can be said, or ""."""
    if not declared.is_relative(group):
        return "the spec calls this action absolute; only displacements are compared with motion."
    if pairs < MIN_PAIRS:
        return f"only {pairs} pairs of action and displacement; {MIN_PAIRS} are needed."
    if match.score < MATCH:
        return (
            f"actions and displacements match by {match.score:.2f} at best, at any lag, in either frame and any order "
            f"of axes ({pairs:,} pairs); {MATCH} is needed to tell."
        )
    return ""


def _axes(group: str, match: Match, pairs: int) -> Finding:
    numbers = {"match": match.score, "match_as_declared": match.score_as_declared, "pairs": pairs}
    if match.is_identity:
        where = "" if match.frame == "base" else " in the tool's frame"
        evidence = f"the hand moves along the axes of the action{where}: match {match.score:.2f} over {pairs:,} steps."
        return Finding(audit="motion_axes", subject=group, verdict="ok", evidence=evidence, numbers=numbers)
    changes = [
        f"{'xyz'[i]} of the action is {'-' if match.signs[i] < 0 else ''}{'xyz'[match.order[i]]} of the motion"
        for i in range(3)
        if match.order[i] != i or match.signs[i] < 0
    ]
    return Finding(
        audit="motion_axes",
        subject=group,
        verdict="fault",
        evidence=f"{', '.join(changes)}: match {match.score:.2f}, unchanged {match.score_as_declared:.2f}.",
        numbers=numbers,
        remedy="Reorder or negate the columns in the spec (slots one by one, op scale with factor -1).",
    )


def _frame(group: str, match: Match, declared: Declared) -> Finding:
    channel = declared.channel("action", group)
    said = channel.frame if channel else "base"
    numbers: Numbers = {"match": match.score, "match_in_base_frame": match.score_as_declared, "frame": match.frame}
    if match.frame == "base":
        evidence = f"actions are displacements in the frame of the states (base): match {match.score:.2f}."
        return Finding(audit="motion_frame", subject=group, verdict="ok", evidence=evidence, numbers=numbers)
    return Finding(
        audit="motion_frame",
        subject=group,
        verdict="suspect" if said == "source" else "fault",
        evidence=(
            f"actions are displacements along the tool's own axes (match {match.score:.2f}), not the base's "
            f"({match.score_as_declared:.2f}); the spec says frame {said!r}."
        ),
        numbers=numbers,
        remedy="Add {op: tool_to_base_frame} to the spec.",
    )


def _lag(group: str, match: Match, declared: Declared) -> Finding:
    delay_s = match.lag / declared.control_hz
    numbers = {"lag_steps": match.lag, "match": match.score, "match_at_lag_0": match.score_at_lag_0}
    left, left_at_0 = 1 - match.score**2, 1 - match.score_at_lag_0**2
    if match.lag == 0 or left > UNEXPLAINED_RATIO * left_at_0:
        evidence = f"each action leads to the next state: match {match.score_at_lag_0:.2f} at lag 0."
        return Finding(audit="motion_lag", subject=group, verdict="ok", evidence=evidence, numbers=numbers)
    when = f"motion matches its action best {counted(abs(match.lag), 'step')}"
    against = f"match {match.score:.2f}, at lag 0 {match.score_at_lag_0:.2f}"
    if match.lag < 0:
        return Finding(
            audit="motion_lag",
            subject=group,
            verdict="fault",
            numbers=numbers,
            evidence=f"{when} before the action is given ({against}): observations are late, or actions early.",
            remedy=declared.late_observations_remedy(-match.lag),
        )
    moved = match.score >= EXACT_MATCH
    cause = "too exact for a controller's delay" if moved else "the time the robot takes to answer"
    verdict: Verdict = "suspect" if moved or delay_s > MAX_DELAY_S + 1e-9 else "ok"
    return Finding(
        audit="motion_lag",
        subject=group,
        verdict=verdict,
        numbers=numbers,
        evidence=f"{when} later ({delay_s:.2g} s; {against}): {cause}.",
        remedy=declared.early_actions_remedy() if verdict == "suspect" else "",
    )


def _scale(group: str, match: Match, declared: Declared) -> Finding:
    channel = declared.channel("action", group)
    is_velocity = channel is not None and channel.kind == "velocity"
    gain = match.gain * (declared.control_hz if is_velocity else 1.0)
    unit = ACTION_GROUPS[group].unit
    numbers = {"gain": gain, "match": match.score}
    does = "turns" if "rotation" in group else "moves"
    covers = f"the hand {does} {gain:.3g} times as far as an action says (match {match.score:.2f})"
    if not declared.unit_is_stated("action", group):
        evidence = f"an action of 1 {does} the hand by {gain:.3g} {unit}; no source states the unit."
        return Finding(audit="motion_scale", subject=group, verdict="unknown", evidence=evidence, numbers=numbers)
    if LEAST_USUAL_GAIN <= gain <= MOST_USUAL_GAIN:
        return Finding(audit="motion_scale", subject=group, verdict="ok", evidence=f"{covers}.", numbers=numbers)
    far = not LEAST_GAIN <= gain <= MOST_GAIN
    return Finding(
        audit="motion_scale",
        subject=group,
        verdict="fault" if far else "suspect",
        evidence=f"{covers}; {LEAST_USUAL_GAIN} to {MOST_USUAL_GAIN} is usual: the action is not in {unit} a step.",
        numbers=numbers,
        remedy=f"Scale the action in the spec by about {gain:.3g}, or find its unit.",
    )
