"""Synthetic camera images with the entropy of real ones, and a stream of episodes made of them.

A scene is smooth colour at several scales plus fine sensor-like grain; the grain is set so that 224x224 at JPEG quality
95, 4:2:0, takes about 18 kB, which is what real robot frames take. Flat or random images would decode two times too
fast or too slow and make every ratio to the decode rate meaningless.
"""

from pathlib import Path

import numpy as np

from oxe_pipeline.episode import Episode
from tests.synthetic import write_stream

CAMERAS = ("primary", "wrist")
_GRAIN = 1.55
"""Standard deviation of the grain in grey levels."""


def scene(rng: np.random.Generator, image_px: int) -> np.ndarray:
    """uint8 [image_px, image_px, 3]: blurred noise at three scales plus grain."""
    from PIL import Image

    pixels = np.full((image_px, image_px, 3), 128, np.float32)
    for cells, contrast in ((4, 60), (16, 30), (48, 12)):
        noise = (rng.normal(0, 1, (cells, cells, 3)) * contrast + 128).clip(0, 255).astype(np.uint8)
        smooth = Image.fromarray(noise).resize((image_px, image_px), Image.Resampling.BICUBIC)
        pixels += np.asarray(smooth, np.float32) - 128
    pixels += rng.normal(0, _GRAIN, (image_px, image_px, 1))
    return pixels.clip(0, 255).astype(np.uint8)


def encoded_scenes(count: int, image_px: int, seed: int = 0) -> list[bytes]:
    """`count` different scenes as JPEG, quality 95, 4:2:0."""
    import simplejpeg

    rng = np.random.default_rng(seed)
    return [simplejpeg.encode_jpeg(scene(rng, image_px), quality=95, colorsubsampling="420") for _ in range(count)]


def make_scene_stream(folder: Path, name: str, *, episodes: int, steps: int, image_px: int, seed: int) -> Path:
    """A stream of one-arm episodes seen by two cameras, in `folder`; images are drawn from a stock of 64 scenes."""
    rng = np.random.default_rng(seed)
    stock = encoded_scenes(64, image_px, seed)
    made = [_episode(rng, name, number, steps, stock) for number in range(episodes)]
    return write_stream(folder, made, episodes_per_shard=16)


def _episode(rng: np.random.Generator, dataset: str, number: int, steps: int, stock: list[bytes]) -> Episode:
    action, state = np.zeros((steps, 32), np.float32), np.zeros((steps, 40), np.float32)
    action[:, :7] = rng.normal(0, 0.02, (steps, 7))
    state[:, :10] = rng.normal(0, 1, (steps, 10))
    return Episode(
        dataset=dataset,
        episode_id=f"{number:016x}",
        split="train",
        action=action,
        action_mask=np.arange(32) < 7,
        state=state,
        state_mask=np.arange(40) < 10,
        action_raw=action[:, :7].copy(),
        state_raw=state[:, :10].copy(),
        images={camera: [stock[i] for i in rng.integers(0, len(stock), steps)] for camera in CAMERAS},
        instruction=f"put object {number} into the drawer",
        alternatives=(f"object {number} goes into the drawer",),
        control_hz=10.0,
    )
