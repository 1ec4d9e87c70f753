"""Audit of RLDS step flags: is_first on the first step alone, is_last on the last alone, is_terminal nowhere but there.

A file whose episodes were cut or joined wrongly shows it here. Asked of the source, before a spec drops steps; what was
found travels on as quality flags of the episode.
"""

from collections.abc import Collection, Mapping

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.finding import Finding, Verdict, share_verdict
from oxe_pipeline.quality.tally import Sums, Tally

AUDIT = "step_flags"
NAMES = ("is_first", "is_last", "is_terminal")
FLAGS = {name: f"{name}_misplaced" for name in NAMES}
CUT = "is_last_absent"
"""Flag of an episode without a last step: the recording, or the copy of it, ends before the episode did."""


def misplaced(steps: Mapping[str, object]) -> tuple[str, ...]:
    """Quality flags of an episode with these step columns; a column that is absent or holds no flags is no fault."""
    found = []
    for name in NAMES:
        column = steps.get(name)
        if not isinstance(column, np.ndarray) or column.dtype.kind not in "biu" or column.size != len(column):
            continue
        where = np.flatnonzero(column).tolist()
        right = 0 if name == "is_first" else len(column) - 1
        if name == "is_last" and not where:
            found.append(CUT)
        elif where != [right] and not (name == "is_terminal" and not where):
            found.append(FLAGS[name])
    return tuple(found)


def measure(episode: Episode) -> dict[str, Sums]:
    """ "episodes" -> counts: `episodes`, and one a flag that is misplaced."""
    counts = {flag: int(flag in episode.quality_flags) for flag in (*FLAGS.values(), CUT)}
    return {"episodes": {"episodes": 1, **counts}}


def judge(tally: Tally, present: Collection[str]) -> list[Finding]:
    """One finding; unknown where the source has none of the flags (`present`: its step keys)."""
    asked = [name for name in NAMES if name in present]
    evidence = "the source's steps carry no is_first, is_last or is_terminal."
    return [
        _finding(subject, sums, asked)
        if asked
        else Finding(audit=AUDIT, subject=subject, verdict="unknown", evidence=evidence)
        for subject, sums in tally.of(AUDIT)
    ]


def _finding(subject: str, sums: Sums, asked: list[str]) -> Finding:
    episodes, cut = int(sums["episodes"]), int(sums[CUT])
    wrong = {name: int(sums[FLAGS[name]]) for name in asked}
    verdict: Verdict = share_verdict(max(wrong.values()), episodes)
    told = [f"{name} stands on a wrong step in {count:,}" for name, count in wrong.items() if count]
    remedy = ""
    if told:
        remedy = "Episodes may be joined or split wrongly; look at the first and last steps of those with these flags."
    if cut:
        told.append(f"{cut:,} end without is_last, so they are cut short")
        verdict = "suspect" if verdict == "ok" else verdict
        remedy = remedy or "Get the whole episodes, or take them as parts: each just ends where its copy does."
    evidence = (
        f"of {episodes:,} episodes, {', '.join(told)}." if told else f"{', '.join(asked)} stand where they belong."
    )
    return Finding(
        audit=AUDIT,
        subject=subject,
        verdict=verdict,
        numbers={"episodes": episodes, "cut": cut, **wrong},
        evidence=evidence,
        remedy=remedy,
    )
