"""Columns of numbers as files hold them, checked and made what readers hand on."""

import numpy as np

from oxe_pipeline.episode import DataError


def number_table(values: np.ndarray, width: int, *, episode: str, field: str) -> np.ndarray:
    """float64 [T, width] of T rows of numbers or truth values; one number a step may lack the inner dimension.

    Raises DataError naming the place for anything else, text and complex numbers among them.
    """
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2) or values.size != len(values) * width:
        reason = f"must be numbers [T, {width}], is {values.dtype} {list(values.shape)}"
        raise DataError(reason, episode=episode, field=field)
    return values.astype(np.float64).reshape(len(values), width)
