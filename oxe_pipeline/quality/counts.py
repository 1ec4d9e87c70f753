"""Audits that count episodes: values that are no numbers, episodes that are there twice, declared against found.

They need no look at the data: what the units of the job wrote down is enough.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import xxhash

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.finding import Finding, Verdict, counted, share_verdict

NOT_FINITE, DUPLICATES, DECLARED, EXPECTED = (
    "not_finite",
    "duplicate_episodes",
    "declared_episodes",
    "expected_episodes",
)
DUPLICATE_FLAG = "duplicate"
SUBJECT = "episodes"
_NOT_A_NUMBER = re.compile(r"\bis (nan|-?inf)\b|must be \d+ finite numbers")
"""How quality/checks.py words it."""
_LOST_FIELD = "record"
"""Field of a fault in the file itself, where an episode could not even be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """How many episodes there should be."""

    found: int
    """Episodes that came into the job and, before it, into the builder: converted and set aside."""
    set_aside_by_builder: int = 0
    declared: int
    """By dataset_info.json for the files that were read."""
    missing_files: int = 0
    """Declared files that are not there."""
    expected: Mapping[str, int] = field(default_factory=dict)
    """Source split to episodes, by the spec: of the whole data set as published."""
    splits: tuple[str, ...] = ()
    """Source splits that the job was asked for; () means all."""


def content_hash(episode: Episode) -> str:
    """16 hexadecimal digits over states and actions, raw and unified: equal for one recording whose images were encoded
    anew, which has another episode_id. "" for an episode in which nothing changes, and for one without states: short
    rows of commands may be given twice."""
    if not (episode.state_mask.any() or episode.state_raw.shape[1]):
        return ""
    digest = xxhash.xxh3_64()
    for vector in (episode.action, episode.state, episode.action_raw, episode.state_raw):
        digest.update(vector.tobytes())
    moves = any(len(vector) > 1 and (vector[1:] != vector[:-1]).any() for vector in (episode.action, episode.state))
    return digest.hexdigest() if moves else ""


def duplicates(contents: Sequence[tuple[str, str]]) -> list[int]:
    """Positions of episodes (episode_id, content_hash) that are there already, in order; the first of each stays."""
    ids: set[str] = set()
    hashes: set[str] = set()
    found = []
    for position, (identity, content) in enumerate(contents):
        if identity in ids or (content and content in hashes):
            found.append(position)
        ids.add(identity)
        hashes.add(content)
    return found


def judge_duplicates(found: int, episodes: int, first: str) -> Finding:
    """`first`: the id of the first episode that is there twice."""
    verdict = share_verdict(found, episodes)
    evidence = f"{found or 'none'} of {episodes:,} episodes have the id, or the states and actions, of one before them"
    return Finding(
        audit=DUPLICATES,
        subject=SUBJECT,
        verdict=verdict,
        numbers={"duplicates": found, "episodes": episodes},
        evidence=f"{evidence}{f', first {first}' if found else ''}.",
        remedy="Drop flag duplicate by an overlay, or look for files that were copied twice." if found else "",
    )


def judge_not_finite(reasons: Sequence[str], episodes: int) -> Finding:
    """`reasons`: why episodes were set aside, one each."""
    found = [reason for reason in reasons if _NOT_A_NUMBER.search(reason)]
    shown = f"; the first because {found[0]}" if found else ""
    return Finding(
        audit=NOT_FINITE,
        subject=SUBJECT,
        verdict=share_verdict(len(found), episodes),
        evidence=f"{len(found) or 'none'} of {episodes:,} episodes were set aside for NaN or infinity{shown}.",
        numbers={"set_aside": len(found), "episodes": episodes},
        remedy="Find out what the source means by it; these episodes are not in the stream." if found else "",
    )


def judge_counts(source: Source, fields: Counter[str]) -> list[Finding]:
    """declared_episodes and expected_episodes. `fields`: the fields of all faults, with their numbers."""
    return [_declared(source, fields[_LOST_FIELD]), _expected(source)]


def _declared(source: Source, lost: int) -> Finding:
    found = source.found - source.set_aside_by_builder
    numbers = {"declared": source.declared, "found": found, "lost": lost, "missing_files": source.missing_files}
    told = f"the files here hold {found:,} of the {source.declared:,} episodes that dataset_info.json declares for them"
    verdict: Verdict = "ok"
    remedy = ""
    if lost:
        verdict, told = "fault", f"{told}, {lost} of them not readable"
        remedy = "Copy the damaged files again; the quarantine list names them."
    elif found > source.declared:
        verdict, remedy = "suspect", "The files are not those that dataset_info.json was written for."
        told = f"the files here hold {counted(found, 'episode')}, more than the {source.declared:,} declared for them"
    if source.missing_files:
        verdict = verdict if verdict == "fault" else "suspect"
        told = f"{told}; absent: {counted(source.missing_files, 'file')} that it names"
        remedy = remedy or "Copy the absent files too, or take the stream for a part of the data set."
    return Finding(
        audit=DECLARED, subject=SUBJECT, verdict=verdict, evidence=f"{told}.", numbers=numbers, remedy=remedy
    )


def _expected(source: Source) -> Finding:
    expected = {name: count for name, count in source.expected.items() if not source.splits or name in source.splits}
    total = sum(expected.values())
    numbers = {"expected": total, "found": source.found}
    if not total:
        evidence = f"{source.found:,} episodes found; the spec declares no number of episodes to compare with."
        return Finding(audit=EXPECTED, subject=SUBJECT, verdict="unknown", evidence=evidence, numbers=numbers)
    evidence = f"{source.found:,} of the {total:,} episodes of the whole data set"
    if source.found == total:
        return Finding(audit=EXPECTED, subject=SUBJECT, verdict="ok", evidence=f"{evidence}.", numbers=numbers)
    partial = source.found < total
    return Finding(
        audit=EXPECTED,
        subject=SUBJECT,
        verdict="suspect",
        numbers=numbers,
        evidence=f"{evidence}{f' ({source.found / total:.2%}): a partial copy' if partial else ', which are more'}.",
        remedy="Nothing to do if a part is meant; else copy the rest." if partial else "Correct expected_episodes.",
    )
