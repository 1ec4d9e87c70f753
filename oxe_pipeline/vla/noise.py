"""Random numbers of a model's forward pass, as a function of (g, stream, place) alone.

A sample's diffusion noise then is the same on any number of ranks, in any micro-batch, after a resume and on any
device, and its loss with it: torch's global generator gives none of that. The arithmetic is that of
oxe_pipeline/mixture/counter_rng.py, here on torch tensors, so that nothing is copied between devices.

`g` is the batch's: it numbers the samples of a training run, so that a window that comes again in another epoch gets
other noise, and it numbers the windows of an evaluation, so that an action sampled twice for one window is the same
action twice. The run's seed does not enter: it changes which sample has number g, not the noise of that number.
"""

import math
from enum import IntEnum

import torch
from torch import Tensor

from oxe_pipeline.mixture.counter_rng import GOLDEN, LANE_STEP, MULTIPLIERS, name_key, stream_keys

SEED = name_key("oxe_pipeline.vla.noise")
"""Sets these numbers apart from the loader's, whose streams count under the run's seed."""
_FRACTION_BITS = 24


class NoiseStream(IntEnum):
    """What a number is drawn for. Values are part of a run's results: append, never renumber."""

    DIFFUSION_TIME = 1
    DIFFUSION_NOISE = 2
    DIFFUSION_SAMPLING = 3
    """The start and every step of sampling actions."""
    FLOW_TIME = 4
    FLOW_NOISE = 5
    FLOW_SAMPLING = 6
    CONDITION_DELETION = 7
    """Which of instruction and goal image is withheld, where a model takes both."""
    TAUGHT = 8
    """Which samples of a distillation keep their recorded action."""


def counter_uniform(g_B: Tensor, shape: tuple[int, ...], *, stream: int) -> Tensor:
    """float32 [B, *shape] in [0, 1), multiples of 2^-24, on the device of `g_B` (int64 [B]); equal bits on any device.

    `stream` is a NoiseStream; an element's place in `shape` (row-major) is its lane.
    """
    return _fraction(counter_bits(g_B, shape, stream=stream) >> (64 - _FRACTION_BITS))


def counter_normal(g_B: Tensor, shape: tuple[int, ...], *, stream: int) -> Tensor:
    """float32 [B, *shape], standard normal, on the device of `g_B`; devices agree up to the last bits of log and cos.

    Box and Muller's transform of the upper and the lower 24 bits of one word: nothing beyond 5.77 comes out, which a
    true normal exceeds once in a hundred million draws.
    """
    bits = counter_bits(g_B, shape, stream=stream)
    # 1 - u lies in (0, 1]: its logarithm is finite.
    radius = torch.sqrt(-2.0 * torch.log(1.0 - _fraction(bits >> (64 - _FRACTION_BITS))))
    return radius * torch.cos(2.0 * math.pi * _fraction(bits))


def counter_bits(g_B: Tensor, shape: tuple[int, ...], *, stream: int) -> Tensor:
    """int64 [B, *shape]: the 64-bit words of `counter_rng.bits(SEED, g, stream, lane)`, read as signed numbers."""
    inner, outer = (_signed(key) for key in stream_keys(SEED, stream))
    lane = torch.arange(math.prod(shape), device=g_B.device)
    mixed_B = _mix64(g_B * _signed(GOLDEN) + inner)
    return _mix64((mixed_B ^ outer)[:, None] + lane * _signed(LANE_STEP)).reshape(len(g_B), *shape)


def _mix64(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64: `counter_rng.mix64` on int64, whose products wrap around as unsigned ones do."""
    x = (x ^ _shift_right(x, 30)) * _signed(MULTIPLIERS[0])
    x = (x ^ _shift_right(x, 27)) * _signed(MULTIPLIERS[1])
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, places: int) -> Tensor:
    """Shifts zeros in; `>>` on int64 alone would shift in the sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)


def _fraction(bits: Tensor) -> Tensor:
    """float32 in [0, 1) of the lowest 24 bits: as many as float32 holds, so nothing is rounded up to 1."""
    return (bits & ((1 << _FRACTION_BITS) - 1)).float() * 2.0**-_FRACTION_BITS


def _signed(word: int) -> int:
    """The int64 with the bits of a 64-bit word."""
    return word - (1 << 64) if word >> 63 else word
