"""Normalizer: brings the slots of a robot vector to a common scale and back, from statistics of the train split.

normalised = (value - offset) / scale, slot by slot, so that each direction is two cheap operations on whole batches,
and torch code can use the two arrays as they are. Subtracting before dividing keeps float32 exact enough where an
offset is large against its range. What passes through unchanged: grippers and the terminate flag (0 to 1 by
definition) and masked slots (their zeros stay zeros). A slot that never changes becomes 0: in its own unit a
joint held at 2.3 rad would lie beyond every range. "No motion" has no special place: a zero delta is normalised like
any other value, so it is 0 afterwards only where the range is symmetric. Traded away: values beyond q01..q99 lie beyond
-1..1 unless clipping is asked for.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Mode = Literal["quantile", "mean_std", "min_max", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalizerConfig:
    """How slots are scaled."""

    mode: Mode = "quantile"
    """quantile: q01..q99 to -1..1 (OpenVLA, Octo's bounds); mean_std: mean 0, deviation 1; min_max: min..max to -1..1;
    none: values stay in their units."""
    clip: float | None = None
    """None: values beyond the range stay beyond -1..1, so `inverse` brings every value back. A number: `forward` clips
    normalised slots to [-clip, clip] (OpenVLA: 1), which loses what lies outside. `inverse` never clips."""
    minimum_range: float = 1e-4
    """Least width in the slot's unit (m, rad) that is scaled up to the full range; below it noise would be magnified.
    For mean_std the width is two deviations."""
    constant_range: float = 0.02
    """Width given to a slot that never changes. A policy that predicts the token bin next to 0 is then 0.04 mm or 0.04
    mrad off, and a held-out value that does differ stays a number a network can take."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Normalizer:
    """Offsets and scales of D slots. Immutable; `from_summary` and `from_dict` make one."""

    names: tuple[str, ...]
    offset: np.ndarray
    """float32 [D], in the slot's unit; 0 where a slot passes through."""
    scale: np.ndarray
    """float32 [D], positive, in the slot's unit; 1 where a slot passes through."""
    normalised: np.ndarray
    """bool [D]: false where a slot passes through."""
    config: NormalizerConfig

    @classmethod
    def from_summary(
        cls,
        summary: Mapping[str, Mapping[str, float]],
        names: Sequence[str],
        mask: np.ndarray | None = None,
        config: NormalizerConfig | None = None,
    ) -> "Normalizer":
        """The normalizer of the slots `names` [D] from VectorStatistics.summary().

        Slots where `mask` bool [D] is false pass through. Raises ValueError for a slot in the mask that has no
        statistics, and for an unknown mode. Warns (UserWarning) once for each slot whose range is below the least.
        """
        config = config or NormalizerConfig()
        if config.mode not in get_args(Mode):
            raise ValueError(f"normalizer: mode {config.mode!r} is unknown; there are {', '.join(get_args(Mode))}")
        present = np.ones(len(names), bool) if mask is None else np.asarray(mask, bool)
        if present.shape != (len(names),):
            raise ValueError(f"normalizer: mask must be [{len(names)}], is {list(present.shape)}")
        offset, scale = np.zeros(len(names)), np.ones(len(names))
        normalised = np.zeros(len(names), bool)
        for i, name in enumerate(names):
            if not present[i] or config.mode == "none" or is_passed_through(name):
                continue
            if name not in summary:
                raise ValueError(f"normalizer: no statistics for {name}; compute them anew or leave it out of the mask")
            numbers = summary[name]
            if numbers["min"] < numbers["max"]:
                offset[i], scale[i] = _offset_and_scale(name, numbers, config)
                normalised[i] = True
            else:
                offset[i], scale[i] = numbers["min"], config.constant_range / 2
                normalised[i] = True
        return cls(
            names=tuple(names),
            offset=offset.astype(np.float32),
            scale=scale.astype(np.float32),
            normalised=normalised,
            config=config,
        )

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Values in units [..., D] (a step, an episode, a batch of chunks) to normalised ones, float32 [..., D]."""
        result = (np.asarray(values, np.float32) - self.offset) / self.scale
        if self.config.clip is None:
            return result
        return np.where(self.normalised, np.clip(result, -self.config.clip, self.config.clip), result)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Normalised values [..., D] back to units, float32 [..., D]; undoes `forward` except for what it clipped."""
        return np.asarray(values, np.float32) * self.scale + self.offset

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able values; floats keep every bit. Inverse: from_dict."""
        return {
            "mode": self.config.mode,
            "clip": self.config.clip,
            "minimum_range": self.config.minimum_range,
            "constant_range": self.config.constant_range,
            "names": list(self.names),
            "offset": self.offset.tolist(),
            "scale": self.scale.tolist(),
            "normalised": self.normalised.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Normalizer":
        """Inverse of to_dict; KeyError for a missing entry."""
        return cls(
            names=tuple(content["names"]),
            offset=np.array(content["offset"], np.float32),
            scale=np.array(content["scale"], np.float32),
            normalised=np.array(content["normalised"], bool),
            config=NormalizerConfig(**{name: content[name] for name in NormalizerConfig.__dataclass_fields__}),
        )


def is_passed_through(name: str) -> bool:
    """Whether a slot is never normalised, by its name: a gripper ("arm0.gripper") or the terminate flag."""
    return name == "terminate" or name.endswith(".gripper")


def _offset_and_scale(name: str, numbers: Mapping[str, float], config: NormalizerConfig) -> tuple[float, float]:
    """Centre and half width of one slot, widened to the least range where needed."""
    least = config.minimum_range
    if config.mode == "mean_std":
        if 2 * numbers["std"] < least:
            _warn(name, f"deviation {numbers['std']:.3g} is raised to {least / 2:.3g}")
        return numbers["mean"], max(numbers["std"], least / 2)
    low, high = (numbers["q01"], numbers["q99"]) if config.mode == "quantile" else (numbers["min"], numbers["max"])
    if config.mode == "quantile" and high - low < least <= numbers["max"] - numbers["min"]:
        # Nearly always at rest, moving now and then: by its quantiles the few real motions would become huge numbers.
        _warn(name, f"q01..q99 is only {high - low:.3g} wide; scaled by its least and greatest value instead")
        low, high = numbers["min"], numbers["max"]
    elif high - low < least:
        _warn(name, f"range {high - low:.3g} is widened to {least:.3g}")
    return (low + high) / 2, max(high - low, least) / 2


def _warn(name: str, what: str) -> None:
    warnings.warn(f"normalizer: {name}: {what}", UserWarning, stacklevel=4)
