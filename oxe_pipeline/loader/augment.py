"""Random crop and colour changes of a batch's images, batched in torch, on the CPU or an accelerator.

Parameters are drawn in numpy from the counter RNG of (seed, g, camera), so they are the same on every device, rank and
worker and after a resume; pixels may differ between devices by the rounding of one grey level. All frames of one sample
and camera share their parameters: a history must not flicker. The loader does not do this itself: call `augment` on the
batch where it is used, after it went to the accelerator if there is one.

Order and default strengths follow the published training of Octo and OpenVLA: crop, brightness, contrast, saturation,
hue. Hue turns the colour plane of YIQ instead of the hexagon of HSV: one 3x3 matrix per sample, and no branches.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from oxe_pipeline.mixture.counter_rng import RandomStream, uniform
from schemas.slots import CAMERAS

_LANES = 8
"""Random numbers set apart per camera in each stream."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentOptions:
    """Strengths; the neutral value of each leaves images as they are."""

    crop_area: tuple[float, float] = (0.9, 0.9)
    """Least and greatest share of the image's area that the crop keeps; (1, 1) for none. Aspect is kept."""
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
        for name in ("brightness", "hue"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, is {getattr(self, name)!r}")


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


def augment(batch: dict, *, seed: int, options: AugmentOptions | None = None) -> dict:
    """A new batch whose `image_<camera>` and `image_goal` are augmented uint8 tensors of the same shapes.

    The goal takes the primary camera's parameters. Everything else is passed on as it is. Masked images may
    come out grey instead of black: models must go by the masks. Deterministic in (seed, g).
    """
    options = options or AugmentOptions()
    g = batch["g"].cpu().numpy()
    augmented = dict(batch)
    for name, images in batch.items():
        camera = name.removeprefix("image_")
        if camera == "goal" and name != camera:
            parameters = draw_parameters(seed, g, CAMERAS[0], options)
            augmented[name] = augment_images(images[:, None], parameters)[:, 0]
        elif camera in CAMERAS and name != camera:
            augmented[name] = augment_images(images, draw_parameters(seed, g, camera, options))
    return augmented


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


def augment_images(images_BTHWC: Any, parameters: AugmentParameters) -> Any:
    """uint8 [B, T, H, W, 3] tensor to the same shape on the same device, computed in float32."""
    import torch

    batch, frames, height, width, channels = images_BTHWC.shape
    if batch == 0:
        return images_BTHWC
    planes = images_BTHWC.reshape(-1, height, width, channels).permute(0, 3, 1, 2).to(torch.float32) / 255

    def per_frame(values: np.ndarray) -> Any:
        return torch.from_numpy(np.repeat(values, frames, axis=0)).to(planes.device)

    planes = _cropped(planes, per_frame(_crop_transform(parameters.crop)))
    planes = planes + per_frame(parameters.brightness)[:, None, None, None]
    mean = planes.mean(dim=(1, 2, 3), keepdim=True)
    planes = mean + (planes - mean) * per_frame(parameters.contrast)[:, None, None, None]
    turn = per_frame(_colour_matrices(parameters.saturation, parameters.hue))
    planes = torch.einsum("nij,njhw->nihw", turn, planes)
    pixels = (planes.clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).reshape(batch, frames, height, width, channels)


def _cropped(planes: Any, transform: Any) -> Any:
    """Crops each image and brings it back to full size, bilinearly."""
    import torch

    grid = torch.nn.functional.affine_grid(transform, list(planes.shape), align_corners=False)
    return torch.nn.functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _crop_transform(crop: np.ndarray) -> np.ndarray:
    """float32 [B, 2, 3]: output coordinates in -1..1 to input coordinates."""
    side, left, top = crop.T
    transform = np.zeros((len(crop), 2, 3), np.float32)
    transform[:, 0, 0] = transform[:, 1, 1] = side
    transform[:, 0, 2] = (1 - side) * (2 * left - 1)
    transform[:, 1, 2] = (1 - side) * (2 * top - 1)
    return transform


def _colour_matrices(saturation: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """float32 [B, 3, 3] on RGB: the colour plane of YIQ is scaled by `saturation` and turned by `hue` radians."""
    to_yiq = np.array([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    in_plane = np.zeros((len(hue), 3, 3))
    in_plane[:, 0, 0] = 1
    in_plane[:, 1, 1] = in_plane[:, 2, 2] = saturation * np.cos(hue)
    in_plane[:, 1, 2] = -saturation * np.sin(hue)
    in_plane[:, 2, 1] = saturation * np.sin(hue)
    return (np.linalg.inv(to_yiq) @ in_plane @ to_yiq).astype(np.float32)


def _between(share: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (limits[0] + share * (limits[1] - limits[0])).astype(np.float32)
