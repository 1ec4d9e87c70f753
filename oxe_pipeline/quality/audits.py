"""All audits together: what the shard job keeps of every episode, and the findings it comes to in the end.

An audit is two pure functions: `measure`, from an episode to sums, and `judge`, from the sums of all episodes to
findings. Between them lies addition, so the job needs no second pass, and units may be merged in any grouping. Images
are looked at in a bounded sample (thumbnails.py).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality import (
    angles,
    camera_frames,
    colours,
    gripper,
    idle_steps,
    joints,
    motion,
    motion_verdicts,
    orientation,
    ranges,
    step_flags,
    thumbnails,
    upright,
)
from oxe_pipeline.quality.counts import content_hash
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding
from oxe_pipeline.quality.tally import Sums, Tally
from oxe_pipeline.quality.thumbnails import Thumbnails

LEAST_SAMPLED, LEAST_SHARE = 128, 0.02
"""Episodes in which conventions are looked for: so many of a small data set (some thousand steps, where the audits ask
for a hundred or two), and this share of a large one. Either way it is little beside the conversion."""
PICTURED_EPISODES = 1.5 * thumbnails.MAX_EPISODES
"""More than the sample, since a hash chooses only about so many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one episode contributes."""

    sums: Mapping[tuple[str, str], Sums]
    """(audit, subject) -> sums."""
    flags: tuple[str, ...]
    """Quality flags, those that the episode had already among them; sorted."""
    content: str
    """counts.content_hash, by which a copy is known when all units are together."""
    is_pictured: bool
    """Whether the episode's images may belong to the sample."""


def measure(episode: Episode, declared_episodes: int = 1) -> Measured:
    """What audits keep of one episode of a data set of so many, and its quality flags (see flags.py). Deterministic.

    Conventions are looked for in all episodes, or in about as many as LEAST_SAMPLED and LEAST_SHARE say and, in images,
    PICTURED_EPISODES, chosen by a hash: what a lab got wrong, it got wrong throughout, and the rest would only cost
    time.
    """
    rank, moving = thumbnails.rank(episode.episode_id), idle_steps.moving_steps(episode)
    frames, idle = camera_frames.measure(episode, moving), idle_steps.measure(moving)
    by_subject: dict[str, dict[str, Sums]] = {
        ranges.UNITS: ranges.measure(episode),
        camera_frames.AUDIT: frames,
        idle_steps.AUDIT: idle,
        step_flags.AUDIT: step_flags.measure(episode),
    }
    sums: dict[tuple[str, str], Sums] = {}
    if rank < max(LEAST_SAMPLED / max(declared_episodes, 1), LEAST_SHARE):
        turnings = orientation.turnings(episode)
        by_subject |= {motion.AUDIT: motion.measure(episode, turnings), joints.AUDIT: joints.measure(episode)}
        sums = {**gripper.measure(episode), **angles.measure(episode, turnings)}
    sums |= {(audit, subject): found for audit, subjects in by_subject.items() for subject, found in subjects.items()}
    flags = {*episode.quality_flags, *camera_frames.flags(frames), *idle_steps.flags(idle), *motion.flags(episode)}
    return Measured(
        sums=sums,
        flags=tuple(sorted(flags)),
        content=content_hash(episode),
        is_pictured=rank * declared_episodes < PICTURED_EPISODES,
    )


class Audits:
    """What is kept of many episodes. One object accumulates; nothing else holds its state."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.thumbnails = Thumbnails()

    def update(self, episode: Episode, measured: Measured) -> None:
        """Adds one episode, with what `measure` found in it."""
        for (audit, subject), sums in measured.sums.items():
            self.tally.add(audit, subject, sums)
        if measured.is_pictured:
            self.thumbnails.update(episode)

    def merge(self, other: "Audits") -> None:
        """Adds what `other` has seen; `other` stays as it is."""
        self.tally.merge(other.tally)
        self.thumbnails.merge(other.thumbnails)

    def to_dict(self) -> dict:
        """JSON-able, keys sorted; some tens of kilobytes, and about 1.5 kB a sampled episode and camera."""
        return {"tally": self.tally.to_dict(), "thumbnails": self.thumbnails.to_dict()}

    @classmethod
    def from_dict(cls, content: Mapping) -> "Audits":
        """Inverse of to_dict."""
        audits = cls()
        audits.tally = Tally.from_dict(content["tally"])
        audits.thumbnails = Thumbnails.from_dict(content["thumbnails"])
        return audits

    def judge(self, declared: Declared, step_keys: Collection[str] = ()) -> list[Finding]:
        """The findings of every audit that asks the episodes themselves. `step_keys`: those of the source."""
        by_tally = (motion_verdicts, joints, gripper, angles, ranges, idle_steps, camera_frames)
        found = [finding for audit in by_tally for finding in audit.judge(self.tally, declared)]
        return [
            *found,
            *step_flags.judge(self.tally, step_keys),
            *colours.judge(self.thumbnails),
            *upright.judge(self.thumbnails),
        ]
