"""ImageInputs: camera images as a published vision tower was trained on them, batched and on any device.

The settings (size, resampling filter, mean, deviation) are those of the model's own image processor of transformers;
its arithmetic is done again here, because that works image by image on the CPU. Resizing is two matrix products with
Pillow's filter weights, rounded to whole levels after each as Pillow does: the same pixels, Lanczos included, on a GPU
too. (torch's own anti-aliased resize has no Lanczos, and none at all for whole levels on a GPU.)

`aspect`: "stretch", the default, brings an image of any shape to the model's square, nothing cut off: what OpenVLA
("resize-naive"), PaliGemma and SigLIP do, and a loader that delivers squares has done. "crop" does as the model's own
processor where that keeps the aspect and cuts the middle out (DINOv2, CLIP, LLaVA).
"""

import functools
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from oxe_pipeline.vla.backbones.hub import BackboneError, import_transformers, one_line, settings_folder

Aspect = Literal["stretch", "crop"]
FILTERS = {1: ("lanczos", 3.0), 2: ("bilinear", 1.0), 3: ("bicubic", 2.0)}
"""Pillow's number of a filter: its name, and half its width in output pixels."""
_BILINEAR = 2


class ImageInputs(nn.Module):
    """Has no weights. `source` is a model directory or Hub name, `parts` a folder of `save_parts` to read in its place.

    BackboneError for a model without image settings, and for settings that make no square.
    """

    def __init__(
        self,
        source: str | Path,
        parts: Path | None = None,
        *,
        image_size: int | None = None,
        aspect: Aspect = "stretch",
    ):
        super().__init__()
        self.processor = processor = load_image_processor(str(source), parts)
        own = _square(processor)
        self.image_size = own if image_size is None else image_size
        """Side of the square in pixels; the model's own unless another was asked for."""
        self.shortest_edge = _shortest_edge(processor) * self.image_size // own if aspect == "crop" else None
        """Of the image whose middle is cut out; None: it is stretched instead."""
        self.longest_edge = processor.size["longest_edge"] if _makes_tiles(processor) else None
        """Of the image that is enlarged to be cut into tiles, and of which the whole image is then a reduction."""
        self.filter = int(processor.resample)
        if self.filter not in FILTERS:
            raise BackboneError(f"{_kind(processor)}: resampling filter {self.filter} is none of {sorted(FILTERS)}")
        self.scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
        normalize = processor.do_normalize
        self.mean = tuple(map(float, processor.image_mean)) if normalize else (0.0, 0.0, 0.0)
        self.deviation = tuple(map(float, processor.image_std)) if normalize else (1.0, 1.0, 1.0)

    def forward(self, images_NHWC: Tensor) -> Tensor:
        """float32 [N, 3, S, S] on the images' device, of uint8 [N, H, W, 3]; S is `image_size`."""
        images = images_NHWC.permute(0, 3, 1, 2)
        height, width = images.shape[-2:]
        if not self.shortest_edge:
            images = resize(
                images, (self.image_size, self.image_size), self.filter, through=self._tiled_size(height, width)
            )
        else:
            short = min(height, width)
            edges = int(height * self.shortest_edge / short), int(width * self.shortest_edge / short)
            images = _middle(resize(images, edges, self.filter), self.image_size)
        mean, deviation = (_column(values, images.device) for values in (self.mean, self.deviation))
        return (images * self.scale - mean) / deviation

    def _tiled_size(self, height: int, width: int) -> tuple[int, int] | None:
        """Idefics3's and SmolVLM's: the longer edge as set, the other in proportion and even."""
        if self.longest_edge is None:
            return None
        shorter = int(self.longest_edge / (max(height, width) / min(height, width)))
        edges = shorter + shorter % 2, self.longest_edge
        return edges if width >= height else edges[::-1]

    def save(self, folder: Path) -> None:
        """Writes preprocessor_config.json, for `parts`."""
        self.processor.save_pretrained(folder)


def load_image_processor(source: str, parts: Path | None) -> Any:
    """The image processor of transformers, in its form without torchvision. BackboneError where there is none."""
    folder = settings_folder(source, parts)
    try:
        return import_transformers().AutoImageProcessor.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, backend="pil"
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BackboneError(f"{source}: no usable preprocessor_config.json in {folder}: {one_line(error)}") from error


def square_pixels(images_NHWC: Tensor, side: int) -> Tensor:
    """float32 [N, 3, side, side] in [-1, 1] of uint8 images of any size: bilinear, anti-aliased, stretched. What
    backbones see that are trained from scratch."""
    return resize(images_NHWC.permute(0, 3, 1, 2), (side, side), _BILINEAR) / 127.5 - 1.0


def resize(
    images_NCHW: Tensor, size: tuple[int, int], pillow_filter: int, *, through: tuple[int, int] | None = None
) -> Tensor:
    """float32 [N, C, height, width] of whole levels 0 to 255, as Pillow's Image.resize gives them for uint8.

    Some 3 of 1,000 values differ, by 1 and rarely 2, where Pillow's fixed-point sum and this one fall to different
    sides of a half. `through`: as if resized to that size first, without the rounding and clipping there.
    """
    height, width = images_NCHW.shape[-2:]
    middle = (None, None) if through is None else through
    with torch.autocast(images_NCHW.device.type, enabled=False):
        images = images_NCHW.float()
        if width != size[1] or through:
            images = _levels(images @ _resize_weights(width, middle[1], size[1], pillow_filter, images.device).mT)
        if height != size[0] or through:
            images = _levels(_resize_weights(height, middle[0], size[0], pillow_filter, images.device) @ images)
    return images


def _levels(images: Tensor) -> Tensor:
    return (images + 0.5).floor_().clamp_(0, 255)


@functools.lru_cache(maxsize=64)
def _resize_weights(
    from_px: int, through_px: int | None, to_px: int, pillow_filter: int, device: torch.device
) -> Tensor:
    """float32 [to_px, from_px]: how much each pixel of a row counts in each new one. Rows sum to 1."""
    if through_px is None:
        weights = _one_step(from_px, to_px, pillow_filter)
    else:
        weights = _one_step(through_px, to_px, pillow_filter) @ _one_step(from_px, through_px, pillow_filter)
    return weights.float().to(device)


def _one_step(from_px: int, to_px: int, pillow_filter: int) -> Tensor:
    """float64 [to_px, from_px], by Pillow's choice of what lies within the filter (its Resample.c, precompute_coeffs):
    bounds rounded to whole pixels, the filter widened by the factor of reduction.
    """
    name, support = FILTERS[pillow_filter]
    widened = max(from_px / to_px, 1.0)
    centre = (torch.arange(to_px, dtype=torch.float64)[:, None] + 0.5) * (from_px / to_px)
    pixel = torch.arange(from_px, dtype=torch.float64)
    first = (centre - support * widened + 0.5).floor()
    last = (centre + support * widened + 0.5).floor()
    weights = _filter(name, (pixel - centre + 0.5) / widened)
    weights = torch.where((pixel >= first) & (pixel < last), weights, 0.0)
    return weights / weights.sum(1, keepdim=True)


def _filter(name: str, x: Tensor) -> Tensor:
    """The filter's curve at distances of x output pixels."""
    far = x.abs()
    if name == "bilinear":
        return (1 - far).clamp(min=0)
    if name == "lanczos":
        return torch.where(far < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)
    a = -0.5  # Pillow's bicubic; torch's has -0.75 without anti-aliasing.
    near = ((a + 2) * far - (a + 3)) * far**2 + 1
    return torch.where(far < 1, near, torch.where(far < 2, (((far - 5) * far + 8) * far - 4) * a, 0.0))


@functools.lru_cache(maxsize=64)
def _column(values: tuple[float, ...], device: torch.device) -> Tensor:
    """[3, 1, 1]; not a buffer, whose precision a model's change of dtype would lower."""
    return torch.tensor(values, device=device)[:, None, None]


def _middle(images_NCHW: Tensor, side: int) -> Tensor:
    top, left = ((edge - side) // 2 for edge in images_NCHW.shape[-2:])
    return images_NCHW[:, :, top : top + side, left : left + side]


def _makes_tiles(processor: Any) -> bool:
    """Idefics3 and SmolVLM: they cut a large image into tiles and add the whole at the size of one, which alone is
    used here."""
    return hasattr(processor, "do_image_splitting")


def _shortest_edge(processor: Any) -> int:
    """What the shortest edge is brought to before the middle is cut out; 0 where nothing is."""
    return processor.size.get("shortest_edge") or 0 if getattr(processor, "do_center_crop", False) else 0


def _square(processor: Any) -> int:
    """The side of the square that a processor's settings make of every image."""
    size = processor.size
    if _makes_tiles(processor):
        return processor.max_image_size["longest_edge"]
    if getattr(processor, "do_center_crop", False):
        size = processor.crop_size
    if size.get("height") and size.get("height") == size.get("width"):
        return size["height"]
    raise BackboneError(f"{_kind(processor)}: size {dict(size)} is no square; a backbone that takes squares is needed")


def _kind(processor: Any) -> str:
    return type(processor).__name__.removesuffix("Pil")
