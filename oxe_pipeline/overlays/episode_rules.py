"""Rules that keep or drop whole episodes, from the episode index alone: no shard is read.

Each is a pure function from columns to bool [E], true for what it keeps. What a source does not say is kept, unless the
rule asks for it to be said.
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from oxe_pipeline.overlays.overlay import OverlayError
from oxe_pipeline.overlays.window_ranges import MAX_REPEATS


def succeeded(success: np.ndarray) -> np.ndarray:
    """Episodes marked successful; `success` int8 [E] is 1, 0 or -1 for unknown."""
    return success == 1


def not_failed(success: np.ndarray) -> np.ndarray:
    """Episodes not marked failed: successful ones, and those nobody judged."""
    return success != 0


def with_instruction(instruction_ids: pa.ListArray, texts: Sequence[str]) -> np.ndarray:
    """Episodes with an instruction that says something; the ids of each episode point into `texts`."""
    says_something = np.array([bool(text.strip()) for text in texts], bool)
    return _any_of(instruction_ids, says_something[instruction_ids.flatten().to_numpy()])


def only_instructions(instruction_ids: pa.ListArray, allowed: np.ndarray) -> np.ndarray:
    """Episodes all of whose instructions are `allowed` bool [I]; those that have none too.

    All, since the loader chooses among the alternatives of an episode at each sample.
    """
    return ~_any_of(instruction_ids, ~allowed[instruction_ids.flatten().to_numpy()])


def with_flag(flags: pa.ListArray, name: str) -> np.ndarray:
    """Episodes that carry the flag; `flags` is a list of texts per episode."""
    return _any_of(flags, pc.equal(flags.flatten(), name).to_numpy(zero_copy_only=False))


def _any_of(lists: pa.ListArray, chosen: np.ndarray) -> np.ndarray:
    """bool [E]: whether any value of a list is chosen; `chosen` bool is over the values of all lists, end to end."""
    return np.bincount(pc.list_parent_indices(lists).to_numpy()[chosen], minlength=len(lists)) > 0


def listed(episode_ids: pa.StringArray, names: Collection[str], where: str) -> np.ndarray:
    """Episodes whose id is among `names`; OverlayError, naming `where` they were listed, for a name of none."""
    unknown = set(names) - set(episode_ids.to_pylist())
    if unknown:
        raise OverlayError(
            f"{where}: {len(unknown)} of {len(set(names))} episode ids are not in the stream, e.g. {min(unknown)!r}; "
            "give ids as episodes.parquet has them (column episode_id)"
        )
    return pc.is_in(episode_ids, pa.array(list(names), pa.string())).to_numpy(zero_copy_only=False)


def repeats_of_weights(weights: Sequence[Fraction]) -> np.ndarray:
    """int32 [E]: the smallest whole numbers in exactly the proportion of the weights; 0 where the weight is 0.

    OverlayError where that takes more than MAX_REPEATS of one episode.
    """
    distinct = set(weights)
    scale = lcm(*(weight.denominator for weight in distinct))
    divisor = gcd(*(int(weight * scale) for weight in distinct)) or 1
    repeats = {weight: int(weight * scale) // divisor for weight in distinct}
    most = max(repeats.values(), default=0)
    if most > MAX_REPEATS:
        raise OverlayError(
            f"weights from {float(min(w for w in distinct if w)):g} to {float(max(distinct)):g} in their exact "
            f"proportion repeat an episode {most:,} times an epoch, the most is {MAX_REPEATS:,}; round them, e.g. to "
            "multiples of the smallest"
        )
    return np.array([repeats[weight] for weight in weights], np.int32)


def weights_of_episodes(episode_ids: pa.StringArray, weights: Mapping[str, Fraction], where: str) -> list[Fraction]:
    """The weight of each episode, 1 where none is given; OverlayError, naming `where`, for an id of no episode."""
    listed(episode_ids, weights, where)
    return [weights.get(name, Fraction(1)) for name in episode_ids.to_pylist()]
