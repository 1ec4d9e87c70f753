"""Episodes whose frames follow each other as a camera's do, for peers that store video.

`benchmarks.scenes` draws every frame from a stock, which costs a JPEG loader nothing but makes a video codec start anew
with each frame. Here each camera of an episode looks at one scene, slightly moving, with fresh sensor noise per frame:
all images differ, JPEGs still weigh what real robot frames do, and video compresses and decodes as it would for real.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers.episodes import CAMERAS, Episode
from benchmarks.scenes import scene
from oxe_pipeline.episode import Episode as UnifiedEpisode
from tests.synthetic import write_stream

CONTROL_HZ = 10.0
_MARGIN_PX = 16
_NOISE = 0.6
"""Standard deviation in grey levels of the noise that differs from frame to frame."""


def make_moving_stream(folder: Path, *, episodes: int, steps: int, image_px: int, seed: int = 0) -> Path:
    """A stream of one-arm episodes of `steps` steps, seen by two cameras, in `folder`; returns it. JPEG quality 95."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, _NOISE, (image_px, image_px, 1)).astype(np.float32)
    made = [_unified(_episode(rng, number, steps, noise), number) for number in range(episodes)]
    return write_stream(folder, made, episodes_per_shard=50)


def _episode(rng: np.random.Generator, number: int, steps: int, noise: np.ndarray) -> Episode:
    return Episode(
        images={camera: list(_frames(rng, steps, noise)) for camera in CAMERAS},
        state=rng.normal(0, 1, (steps, 10)).astype(np.float32),
        action=rng.normal(0, 0.02, (steps, 7)).astype(np.float32),
        instruction=f"put object {number} into the drawer",
    )


def _frames(rng: np.random.Generator, steps: int, noise: np.ndarray) -> Iterator[bytes]:
    import simplejpeg

    image_px = len(noise)
    view = scene(rng, image_px + 2 * _MARGIN_PX)
    corner = _MARGIN_PX + np.cumsum(rng.integers(-1, 2, (steps, 2)), 0)
    for y, x in corner.clip(0, 2 * _MARGIN_PX):
        fresh = np.roll(noise, rng.integers(image_px, size=2), (0, 1))
        frame = view[y : y + image_px, x : x + image_px] + fresh
        yield simplejpeg.encode_jpeg(frame.clip(0, 255).astype(np.uint8), quality=95, colorsubsampling="420")


def _unified(episode: Episode, number: int) -> UnifiedEpisode:
    steps = len(episode)
    action, state = np.zeros((steps, 32), np.float32), np.zeros((steps, 40), np.float32)
    action[:, :7], state[:, :10] = episode.action, episode.state
    return UnifiedEpisode(
        dataset="moving_scenes",
        episode_id=f"{number:016x}",
        split="train",
        action=action,
        action_mask=np.arange(32) < 7,
        state=state,
        state_mask=np.arange(40) < 10,
        action_raw=episode.action,
        state_raw=episode.state,
        images=episode.images,
        instruction=episode.instruction,
        control_hz=CONTROL_HZ,
    )
