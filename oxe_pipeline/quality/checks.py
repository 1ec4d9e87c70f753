"""Checks that every episode passes on its way in: before the spec is applied, and after. Each raises DataError.

They look for what makes an episode unusable or silently wrong, cheaply enough to run on all data: shapes, finite
numbers, whole images. Whether a convention is right (gripper sign, frame, lag) is a question to a whole data set, not
asked here.
"""

import numpy as np

from oxe_pipeline.episode import DataError, Episode, SourceEpisode
from oxe_pipeline.quality.image_headers import image_size
from schemas.slots import ACTION_NAMES, STATE_NAMES

MIN_SIDE_PX, MAX_SIDE_PX = 8, 8192
"""Sides of an image a robot's camera may have; a 1x1 placeholder or a damaged header falls outside."""


def check_source(source: SourceEpisode, dataset: str = "?") -> None:
    """Raises DataError when the episode has no column or no step, or columns of different lengths (both are named)."""
    if not source.steps:
        raise DataError("the episode has no column", dataset=dataset, episode=source.key, field="steps")
    lengths = {key: len(column) for key, column in source.steps.items()}
    first_key, first_length = next(iter(lengths.items()))
    for key, length in lengths.items():
        if length != first_length:
            reason = f"{length} steps, but {first_key} has {first_length}"
            raise DataError(reason, dataset=dataset, episode=source.key, field=key)
    if first_length == 0:
        raise DataError("the episode has no step", dataset=dataset, episode=source.key, field=first_key)


def check_episode(episode: Episode) -> None:
    """Raises DataError for a wrong shape or dtype, a NaN or infinity (slot and step named), a filled masked slot, an
    image that is truncated, not an image, or of an absurd size."""
    episode.check_shapes()
    _check_finite(episode, "action", ACTION_NAMES)
    _check_finite(episode, "state", STATE_NAMES)
    for field in ("action_raw", "state_raw"):
        _check_finite(episode, field, [f"[{i}]" for i in range(getattr(episode, field).shape[1])])
    for field in ("action", "state"):
        masked = getattr(episode, field)[:, ~getattr(episode, f"{field}_mask")]
        if masked.any():
            raise episode.fault(field, "holds values in masked slots, which must be 0")
    for field in ("reward", "discount"):
        column = getattr(episode, field)
        if column is not None and (len(column) != len(episode) or not np.isfinite(column).all()):
            raise episode.fault(field, f"must be {len(episode)} finite numbers")
    for camera, frames in episode.images.items():
        for step, frame in enumerate(frames):
            check_image(frame, episode, f"images[{camera}]", step)


def check_image(data: bytes, episode: Episode, field: str, step: int) -> None:
    """Raises DataError unless `data` is a whole JPEG or PNG with sides of MIN_SIDE_PX to MAX_SIDE_PX."""
    try:
        height, width = image_size(data)
    except ValueError as error:
        raise episode.fault(field, f"step {step}: {error}") from None
    if not (MIN_SIDE_PX <= height <= MAX_SIDE_PX and MIN_SIDE_PX <= width <= MAX_SIDE_PX):
        raise episode.fault(
            field, f"step {step}: {height}x{width} pixels; sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} are sane"
        )


def _check_finite(episode: Episode, field: str, names) -> None:
    values = getattr(episode, field)
    if np.isfinite(values).all():
        return
    step, column = np.argwhere(~np.isfinite(values))[0]
    bad = int((~np.isfinite(values)).sum())
    raise episode.fault(field, f"{names[column]} is {values[step, column]} at step {step} ({bad} such value(s) in all)")
