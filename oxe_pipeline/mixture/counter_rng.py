"""Random numbers as a pure function of (seed, sample number, stream, lane): nothing to store, nothing to advance.

A run that resumes, changes its workers or asks for one sample in the middle gets the very same numbers. The price is
statistical, not practical: this is a mixing function (SplitMix64), good for sampling and augmentation, not for secrets.
"""

import hashlib
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike

GOLDEN = 0x9E3779B97F4A7C15
LANE_STEP = 0xD1B54A32D192ED03
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WORD = (1 << 64) - 1
# Made once: a numpy scalar costs half as much as the operation on a short array that it is for.
_SHIFT_30, _SHIFT_27, _SHIFT_31, _SHIFT_11 = (np.uint64(shift) for shift in (30, 27, 31, 11))
_FIRST_MULTIPLIER, _SECOND_MULTIPLIER = (np.uint64(multiplier) for multiplier in MULTIPLIERS)
_GOLDEN_WORD, _LANE_STEP_WORD = np.uint64(GOLDEN), np.uint64(LANE_STEP)


class RandomStream(IntEnum):
    """What a number is drawn for. Each choice has its own stream, so that adding one never moves another.

    Values are part of the order of samples: append, never renumber.
    """

    BLOCK = 1
    """Order of the data sets inside one block of the mixture."""
    EPOCH = 2
    """Order of the windows of one data set in one epoch."""
    INSTRUCTION = 3
    """Which of an episode's instructions is given."""
    INSTRUCTION_DROP = 4
    """Whether the instruction is withheld."""
    CAMERA = 5
    """Which camera is given, where one of several is chosen."""
    CAMERA_DROP = 6
    """Whether a camera is blanked; lane = camera."""
    STATE_DROP = 7
    """Whether the robot's state is withheld."""
    CROP = 8
    """Place and size of the crop; lane = parameter."""
    COLOUR = 9
    """Strength of each colour change; lane = parameter."""
    GOAL = 10
    """Which future step is the goal image."""
    SUBSTITUTE = 11
    """Kept free: what takes the place of an unreadable image is its nearest neighbour, which needs no draw."""
    NOISE = 12
    """Noise added to inputs or drawn by a head; lane = element."""
    QUESTION = 13
    """Which step of an episode is asked about."""


def mix64(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 on uint64 [N] (Steele, Lea, Flood 2014; constants of Stafford's variant 13).

    A bijection of 64-bit words in which each input bit changes each output bit with probability close to one half.
    """
    x = (x ^ (x >> _SHIFT_30)) * _FIRST_MULTIPLIER
    x = (x ^ (x >> _SHIFT_27)) * _SECOND_MULTIPLIER
    return x ^ (x >> _SHIFT_31)


def mix64_int(x: int) -> int:
    """`mix64` of one Python int in [0, 2^64): a tenth of the cost of an array of one."""
    x = (x ^ (x >> 30)) * MULTIPLIERS[0] & _WORD
    x = (x ^ (x >> 27)) * MULTIPLIERS[1] & _WORD
    return x ^ (x >> 31)


def bits(seed: int, g: ArrayLike, stream: int, lane: ArrayLike = 0) -> np.ndarray:
    """uint64, uniform over all 64-bit words, shape of `g` and `lane` broadcast together.

    `seed` 0 .. 2^64-1 (ValueError otherwise), `g` any counter >= 0, `stream` a RandomStream, `lane` numbers the draws
    of one stream for one `g`. Two keyed rounds, not one: with a single round two streams would be the same sequence at
    a distance, since SplitMix64 only adds to a counter.
    """
    inner, outer = stream_keys(seed, stream)
    g, lane = np.asarray(g), np.asarray(lane)
    shape = np.broadcast_shapes(g.shape, lane.shape)
    # Arrays of at least one dimension wrap around at 2^64 silently, which is the arithmetic meant; scalars would warn.
    counter = np.atleast_1d(g).astype(np.uint64) * _GOLDEN_WORD + np.uint64(inner)
    offset = np.atleast_1d(lane).astype(np.uint64) * _LANE_STEP_WORD
    return mix64((mix64(counter) ^ np.uint64(outer)) + offset).reshape(shape)


def uniform(seed: int, g: ArrayLike, stream: int, lane: ArrayLike = 0) -> np.ndarray:
    """float64 in [0, 1), 53 random bits, shape of `g` and `lane` broadcast together; see `bits`."""
    return (bits(seed, g, stream, lane) >> _SHIFT_11) * 2.0**-53


def integers(seed: int, g: ArrayLike, stream: int, high: ArrayLike, lane: ArrayLike = 0) -> np.ndarray:
    """int64 in [0, high), `high` >= 1 and broadcast with `g` and `lane`; ValueError for a smaller `high`.

    Made by scaling a 53-bit fraction: no value is likelier than another by more than high / 2^53.
    """
    high = np.asarray(high, np.int64)
    if high.size and high.min() < 1:
        raise ValueError(f"integers: high must be 1 or more, is {high.min()}")
    drawn = (uniform(seed, g, stream, lane) * high).astype(np.int64)
    return np.minimum(drawn, high - 1)


def name_key(name: str) -> int:
    """A 64-bit key of a text: the first 8 bytes of its BLAKE2b hash. The same on every machine, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def check_seed(seed: int) -> int:
    """`seed` itself; ValueError unless it is an int in 0 .. 2^64-1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= _WORD:
        raise ValueError(f"seed must be a whole number from 0 to 2^64-1, is {seed!r}")
    return int(seed)


def stream_keys(seed: int, stream: int) -> tuple[int, int]:
    """The keys of the first and second round of `bits`, each in [0, 2^64)."""
    word, number = check_seed(seed), int(stream)
    inner = mix64_int((word + number * LANE_STEP + GOLDEN) & _WORD)
    return inner, mix64_int((mix64_int(word) + number * GOLDEN) & _WORD)
