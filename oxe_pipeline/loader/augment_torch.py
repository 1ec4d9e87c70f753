"""Augmentation in torch, for accelerators: the whole batch in one go, to the grey levels that the CPU gives."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from oxe_pipeline.loader.augment import AugmentParameters


def augment_pixels(images_BTHWC: Any, parameters: "AugmentParameters", size: tuple[int, int]) -> Any:
    """uint8 [B, T, H, W, 3] tensor to uint8 [B, T, *size, 3] on the same device; see `augment`."""
    import torch

    batch, frames, height, width, channels = images_BTHWC.shape
    device = images_BTHWC.device

    def per_frame(values: np.ndarray) -> Any:
        return torch.from_numpy(np.repeat(values, frames, axis=0)).to(device)

    boxes = parameters.boxes(height, width)
    pixels = images_BTHWC.reshape(-1, height, width, channels)
    shift = _shift(pixels, per_frame(boxes), *(per_frame(values) for values in parameters.shift()))
    coloured = _coloured(pixels, per_frame(parameters.colour_matrices()).float(), shift)
    rows = _source_positions(boxes[:, 0], boxes[:, 2], size[0]) * 2 + 1
    columns = _source_positions(boxes[:, 1], boxes[:, 3], size[1]) * 2 + 1
    grid = torch.stack(
        torch.broadcast_tensors(
            per_frame((columns / width - 1).astype(np.float32))[:, None, :],
            per_frame((rows / height - 1).astype(np.float32))[:, :, None],
        ),
        dim=-1,
    )
    stretched = torch.nn.functional.grid_sample(
        coloured, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    whole = (stretched + 0.5).floor().clamp(0, 255).to(torch.uint8)
    return whole.permute(0, 2, 3, 1).reshape(batch, frames, *size, channels)


def _shift(pixels_NHWC: Any, boxes: Any, constant: Any, per_mean: Any) -> Any:
    """float32 [N]: what is added to every channel, in steps of 1 / COLOUR_STEPS."""
    import torch

    from oxe_pipeline.loader.augment import COLOUR_STEPS

    _, height, width, _ = pixels_NHWC.shape
    top, left, box_height, box_width = boxes.T[..., None]
    rows, columns = (torch.arange(side, device=pixels_NHWC.device) for side in (height, width))
    in_rows, in_columns = (rows >= top) & (rows < top + box_height), (columns >= left) & (columns < left + box_width)
    inside = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
    total = (pixels_NHWC * inside).sum(dim=(1, 2, 3), dtype=torch.int64)
    mean = total.double() / (3 * box_height * box_width)[:, 0]
    return (((constant + per_mean * mean) * COLOUR_STEPS).round() / COLOUR_STEPS).float()


def _coloured(pixels_NHWC: Any, matrices: Any, shift: Any) -> Any:
    """float32 [N, 3, H, W], whole grey levels. Products are spelt out: matrix units may round them, these are exact."""
    import torch

    red, green, blue = pixels_NHWC.to(torch.float32).permute(3, 0, 1, 2)
    weight = matrices[..., None, None]
    channels = [
        red * weight[:, c, 0] + green * weight[:, c, 1] + blue * weight[:, c, 2] + shift[:, None, None]
        for c in range(3)
    ]
    return torch.stack([(channel + 0.5).floor().clamp(0, 255) for channel in channels], dim=1)


def _source_positions(first: np.ndarray, length: np.ndarray, out_length: int) -> np.ndarray:
    """float64 [B, out_length]: the centre of each output pixel in pixels of the image, kept inside the box."""
    inside = (np.arange(out_length) + 0.5) * (length[:, None] / out_length) - 0.5
    return first[:, None] + np.clip(inside, 0, length[:, None] - 1)
