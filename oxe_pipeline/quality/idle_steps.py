"""Audit of idle steps: how much of the data shows a robot that stands still.

From states, so that what counts is the motion achieved; overlays/idle.py drops idle stretches by what the robot was
told. Limits are the same. Units may be wrong, so a slot must also change by a hundredth of its fastest step in the
episode. Traded away: a mobile base that carries a resting arm moves only if its pose is recorded.
"""

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding, Verdict
from oxe_pipeline.quality.tally import Sums, Tally
from schemas.slots import STATE_GROUPS

AUDIT, FLAG = "idle_steps", "idle"
STILL_PER_S = {"m": 0.01, "rad": 0.05, "1": 0.1}
"""Slower than this a hand or joint stands still; "1" is the gripper's opening and the entries of a rotation."""
STILL_SHARE = 0.01
"""Of the fastest step of a slot in its episode: noise of a sensor that does not move much."""
IDLE_EPISODE = 0.5
"""Share of an episode's steps from which it carries the flag `idle`."""
MOST_IDLE = 0.4
"""Share of all steps. Teleoperated data sets that their authors filtered for it (DROID) have about a third."""


def moving_steps(episode: Episode) -> np.ndarray | None:
    """bool [T]: whether the robot moves from state t to t+1 (the last step like the one before); None where the episode
    has no state or a single step, so that nothing can be told."""
    slots = np.flatnonzero(episode.state_mask)
    if not len(slots) or len(episode) < 2:
        return None
    change = np.abs(np.diff(episode.state[:, slots], axis=0))
    limit = _STILL[slots] / episode.control_hz
    moving = (change > np.maximum(limit, STILL_SHARE * change.max(axis=0))).any(axis=1)
    return np.append(moving, moving[-1])


def _limits() -> np.ndarray:
    limits = []
    for group in STATE_GROUPS.values():
        units = group.unit.split(", ") if "," in group.unit else [group.unit] * group.width
        limits += [STILL_PER_S[unit] for unit in units]
    return np.array(limits)


_STILL = _limits()


def measure(moving: np.ndarray | None) -> dict[str, Sums]:
    """ "episodes" -> counts: `steps`, `idle` steps, `idle_episodes`, `episodes`; nothing where it cannot be told.

    `moving`: moving_steps of the episode."""
    if moving is None:
        return {}
    idle = int((~moving).sum())
    return {
        "episodes": {
            "steps": len(moving),
            "idle": idle,
            "idle_episodes": int(idle > IDLE_EPISODE * len(moving)),
            "episodes": 1,
        }
    }


def flags(sums: dict[str, Sums]) -> set[str]:
    """{"idle"} for an episode that stands still for more than IDLE_EPISODE of its steps."""
    return {FLAG} if sums and sums["episodes"]["idle_episodes"] else set()


def judge(tally: Tally, declared: Declared) -> list[Finding]:
    """One finding on all episodes; unknown where no state is recorded."""
    for subject, sums in tally.of(AUDIT):
        steps, idle, still, episodes = (int(sums[k]) for k in ("steps", "idle", "idle_episodes", "episodes"))
        share = idle / steps
        verdict: Verdict = "suspect" if share > MOST_IDLE else "ok"
        return [
            Finding(
                audit=AUDIT,
                subject=subject,
                verdict=verdict,
                evidence=f"the robot stands still in {idle:,} of {steps:,} steps ({share:.1%}), in {still} of "
                f"{episodes} episodes most of the time.",
                numbers={"idle": idle, "steps": steps, "idle_episodes": still, "episodes": episodes},
                remedy="Leave them out by an overlay: python -m oxe_pipeline.overlay --drop-idle."
                if share > MOST_IDLE
                else "",
            )
        ]
    evidence = "no state is recorded in which motion would show."
    return [Finding(audit=AUDIT, subject="episodes", verdict="unknown", evidence=evidence)]
