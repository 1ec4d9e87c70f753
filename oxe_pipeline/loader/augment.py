"""Random crop and colour changes of a batch's images, batched, on the CPU or an accelerator.

Parameters are drawn in numpy from the counter RNG of (seed, g, camera), so they are the same on every device, rank and
worker and after a resume. What is done to pixels is defined in whole pixels and grey levels: cut out a box, change its
colours by one 3x4 matrix in steps of 1/1024, stretch the box to size. The first two give the same bytes everywhere; the
last differs between devices by the rounding of one grey level. All frames of one sample and camera share their
parameters: a history must not flicker. The loader does not do this itself: call `augment` on the batch where it is
used, after it went to the accelerator if there is one. On the CPU it takes OpenCV (`pip install
opencv-python-headless`); without it torch does the same at a thirtieth of the speed.

Order and default strengths follow the published training of Octo and OpenVLA: crop, brightness, contrast, saturation,
hue. Hue turns the colour plane of YIQ instead of the hexagon of HSV: with that, all four are one matrix per image.
Stretching is two thirds of the cost on the CPU. A crop of just the size asked for is not stretched: of images stored at
256 px, `crop_area=(0.7656, 0.7656), image_size=224` cuts windows of 224 px.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from oxe_pipeline.mixture.counter_rng import RandomStream, uniform
from schemas.slots import CAMERAS

_log = logging.getLogger(__name__)
COLOUR_STEPS = 1024
"""Colour matrices are whole multiples of 1 / COLOUR_STEPS, so that sums are exact in float32 and in integers."""
_LANES = 8
"""Random numbers set apart per camera in each stream."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentOptions:
    """Strengths; the neutral value of each leaves images as they are."""

    crop_area: tuple[float, float] = (0.9, 0.9)
    """Least and greatest share of the image's area that the crop keeps; (1, 1) for none. Aspect is kept."""
    image_size: int | tuple[int, int] | None = None
    """(height, width) of the result, or one number for both; None: the size that came in."""
    brightness: float = 0.2
    """Greatest change, in either direction, as a share of white; 0 for none."""
    contrast: tuple[float, float] = (0.8, 1.2)
    """Factor around the image's mean."""
    saturation: tuple[float, float] = (0.8, 1.2)
    """Factor around grey."""
    hue: float = 0.05
    """Greatest turn, in either direction, as a share of the full circle; 0 for none."""

    def __post_init__(self):
        low, high = self.crop_area
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_area must be shares with 0 < least <= greatest <= 1, is {self.crop_area!r}")
        for name in ("contrast", "saturation"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be factors with 0 <= least <= greatest, is {getattr(self, name)!r}")
        if self.size and (len(self.size) != 2 or not all(isinstance(px, int) and px >= 1 for px in self.size)):
            raise ValueError(f"image_size must be pixels, (height, width) or None, is {self.image_size!r}")
        for name in ("brightness", "hue"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, is {getattr(self, name)!r}")

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the result, or None for the size that came in."""
        if self.image_size is None or isinstance(self.image_size, tuple):
            return self.image_size
        return (self.image_size, self.image_size)


@dataclass(frozen=True, slots=True)
class AugmentParameters:
    """What is done to each sample's images of one camera, float32 [B] each; `crop` is [B, 3]."""

    crop: np.ndarray
    """Side of the crop as a share of the image's, and its left and top edge as shares of the room left over."""
    brightness: np.ndarray
    contrast: np.ndarray
    saturation: np.ndarray
    hue: np.ndarray
    """Radians."""

    def boxes(self, height: int, width: int) -> np.ndarray:
        """int64 [B, 4]: top, left, height and width of the crop in whole pixels of an image of that size."""
        side, left, top = self.crop.astype(np.float64).T
        rows = np.maximum(1, np.rint(side * height)).astype(np.int64)
        columns = np.maximum(1, np.rint(side * width)).astype(np.int64)
        first_row = (top * (height - rows + 1)).astype(np.int64)
        first_column = (left * (width - columns + 1)).astype(np.int64)
        return np.stack([first_row, first_column, rows, columns], axis=1)

    def colour_matrices(self) -> np.ndarray:
        """float64 [B, 3, 3] in steps of 1/1024: contrast, saturation and hue of a pixel RGB.

        What is added to it depends on the image: `shift` tells how.
        """
        turns = _hue_matrices(self.saturation, self.hue) * self.contrast[:, None, None].astype(np.float64)
        return np.rint(turns * COLOUR_STEPS) / COLOUR_STEPS

    def shift(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 [B] twice: grey levels added to every channel are the first plus the second times the crop's mean."""
        return 255.0 * self.brightness.astype(np.float64), 1.0 - self.contrast.astype(np.float64)


def augment(batch: dict, *, seed: int, options: AugmentOptions | None = None) -> dict:
    """A new batch whose `image_<camera>` and `image_goal` are augmented: uint8, of the same shapes but for image_size.

    The goal takes the parameters of its camera, the first of the batch. Everything else is passed on as it is. Masked
    images may come out grey instead of black: models must go by the masks. Deterministic in (seed, g).
    """
    options = options or AugmentOptions()
    g = batch["g"].cpu().numpy()
    return _with_images(batch, lambda camera: draw_parameters(seed, g, camera, options), options.size)


def centre_crop(batch: dict, *, options: AugmentOptions | None) -> dict:
    """A batch to act on, for a model that was trained with `options` (None: without any): from the middle of each image
    the greatest area that a crop in training keeps, in the size of training, colours as they are.

    A model that only ever saw nine tenths of the scene, enlarged, would else meet everything at another scale. With
    areas that vary up to the whole image nothing is cropped. As in OpenVLA's evaluation (run_libero_eval.py,
    center_crop).
    """
    if options is None or (options.crop_area[1] == 1 and options.size is None):
        return batch
    ones = np.ones(len(batch["g"]), np.float32)
    side = math.sqrt(options.crop_area[1])
    middle = AugmentParameters(
        crop=np.stack([side * ones, 0.5 * ones, 0.5 * ones], axis=1).astype(np.float32),
        brightness=0 * ones,
        contrast=ones,
        saturation=ones,
        hue=0 * ones,
    )
    return _with_images(batch, lambda camera: middle, options.size)


def _with_images(batch: dict, parameters_of: Callable[[str], AugmentParameters], size: tuple[int, int] | None) -> dict:
    """The batch with its images changed by the parameters of their camera, the goal by those of the first."""
    changed = dict(batch)
    cameras = [name.removeprefix("image_") for name in batch if name.startswith("image_")]
    cameras = [camera for camera in cameras if camera in CAMERAS]
    for camera in cameras:
        parameters = parameters_of(camera)
        changed[f"image_{camera}"] = augment_images(batch[f"image_{camera}"], parameters, size)
        if camera == cameras[0] and "image_goal" in batch:
            changed["image_goal"] = augment_images(batch["image_goal"][:, None], parameters, size)[:, 0]
    return changed


def draw_parameters(seed: int, g: np.ndarray, camera: str, options: AugmentOptions) -> AugmentParameters:
    """The parameters of samples `g` int64 [B] for one camera."""
    lanes = CAMERAS.index(camera) * _LANES + np.arange(4)[:, None]
    area, left, top, _ = uniform(seed, g, RandomStream.CROP, lanes)
    brightness, contrast, saturation, hue = uniform(seed, g, RandomStream.COLOUR, lanes)
    side = np.sqrt(_between(area, options.crop_area))
    return AugmentParameters(
        crop=np.stack([side, left, top], axis=1).astype(np.float32),
        brightness=_between(brightness, (-options.brightness, options.brightness)),
        contrast=_between(contrast, options.contrast),
        saturation=_between(saturation, options.saturation),
        hue=_between(hue, (-2 * math.pi * options.hue, 2 * math.pi * options.hue)),
    )


def augment_images(images_BTHWC: Any, parameters: AugmentParameters, size: tuple[int, int] | None = None) -> Any:
    """uint8 [B, T, H, W, 3] tensor to uint8 [B, T, *size, 3] on the same device; `size` None: (H, W)."""
    size = size or tuple(images_BTHWC.shape[2:4])
    if images_BTHWC.device.type == "cpu" and _has_opencv():
        from oxe_pipeline.loader.augment_opencv import augment_pixels
    else:
        from oxe_pipeline.loader.augment_torch import augment_pixels
    return augment_pixels(images_BTHWC, parameters, size)


@cache
def _has_opencv() -> bool:
    if find_spec("cv2"):
        return True
    _log.warning("augmenting on the CPU without OpenCV takes thirty times as long: pip install opencv-python-headless")
    return False


def _hue_matrices(saturation: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """float64 [B, 3, 3] on RGB: the colour plane of YIQ is scaled by `saturation` and turned by `hue` radians."""
    to_yiq = np.array([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    in_plane = np.zeros((len(hue), 3, 3))
    in_plane[:, 0, 0] = 1
    in_plane[:, 1, 1] = in_plane[:, 2, 2] = saturation * np.cos(hue)
    in_plane[:, 1, 2] = -saturation * np.sin(hue)
    in_plane[:, 2, 1] = saturation * np.sin(hue)
    return np.linalg.inv(to_yiq) @ in_plane @ to_yiq


def _between(share: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (limits[0] + share * (limits[1] - limits[0])).astype(np.float32)
