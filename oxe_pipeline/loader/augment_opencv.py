"""Augmentation on the CPU: OpenCV, image by image, so that each stays in the cache from one step to the next.

OpenCV's colour matrix is exact for steps of 1/1024: it computes with 10 fractional bits. Its bilinear filter is within
half a grey level of the true value before rounding.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from oxe_pipeline.loader.loader import usable_cores

if TYPE_CHECKING:
    from oxe_pipeline.loader.augment import AugmentParameters

_SAMPLES_AT_ONCE = 4


def augment_pixels(images_BTHWC: Any, parameters: "AugmentParameters", size: tuple[int, int]) -> Any:
    """uint8 [B, T, H, W, 3] CPU tensor to uint8 [B, T, *size, 3], on all cores; see `augment`."""
    import torch

    images = images_BTHWC.numpy()
    out = np.empty((*images.shape[:2], *size, 3), np.uint8)
    boxes = parameters.boxes(*images.shape[2:4]).tolist()
    matrices = parameters.colour_matrices()
    constant, per_mean = parameters.shift()

    def augment_samples(first: int) -> None:
        for i in range(first, min(first + _SAMPLES_AT_ONCE, len(images))):
            top, left, height, width = boxes[i]
            crops = images[i, :, top : top + height, left : left + width]
            for crop, into in zip(crops, out[i], strict=True):
                _augment_crop(crop, matrices[i], constant[i], per_mean[i], into)

    with ThreadPoolExecutor(usable_cores()) as pool:
        # A list, so that an error in a thread is raised here.
        list(pool.map(augment_samples, range(0, len(images), _SAMPLES_AT_ONCE)))
    return torch.from_numpy(out)


def _augment_crop(crop_HWC: np.ndarray, matrix: np.ndarray, constant: float, per_mean: float, out: np.ndarray) -> None:
    import cv2

    from oxe_pipeline.loader.augment import COLOUR_STEPS

    mean = sum(cv2.mean(crop_HWC)) / 3
    shift = np.rint((constant + per_mean * mean) * COLOUR_STEPS) / COLOUR_STEPS
    affine = np.column_stack([matrix, np.full(3, shift)])
    if crop_HWC.shape == out.shape:
        cv2.transform(crop_HWC, affine, dst=out)
    else:
        cv2.resize(cv2.transform(crop_HWC, affine), out.shape[1::-1], dst=out, interpolation=cv2.INTER_LINEAR)
