"""A learnable task as a real stream: the hand goes to the block, seen by one camera.

Positions are in metres on a table of 0.4 m x 0.4 m. The action covers a third of the way to the goal at each step, the
gripper closes near it.
"""

from pathlib import Path

import numpy as np

from oxe_pipeline.episode import Episode
from tests.synthetic import write_stream

HALF_TABLE_M = 0.2
GAIN = 0.35
IMAGE_PX = 64


def reaching_episode(seed: int, *, dataset: str, steps: int, split: str) -> Episode:
    import simplejpeg

    rng = np.random.default_rng(seed)
    block, hand = rng.uniform(-HALF_TABLE_M, HALF_TABLE_M, (2, 2))
    height = rng.uniform(0.05, 0.25)
    action, state, images = np.zeros((steps, 32), np.float32), np.zeros((steps, 40), np.float32), []
    for step in range(steps):
        way = np.array([*(block - hand), 0.02 - height])
        action[step, :3] = GAIN * way + rng.normal(0, 0.004, 3)
        action[step, 6] = np.abs(way).max() > 0.05
        state[step, :3] = [*hand, height]
        images.append(simplejpeg.encode_jpeg(_draw(block, hand), quality=90))
        hand, height = hand + action[step, :2], height + action[step, 2]
    action_mask, state_mask = np.zeros(32, bool), np.zeros(40, bool)
    action_mask[[0, 1, 2, 6]] = state_mask[:3] = True
    return Episode(
        dataset=dataset,
        episode_id=f"{seed:016x}",
        split=split,
        action=action,
        action_mask=action_mask,
        state=state,
        state_mask=state_mask,
        action_raw=action[:, :7].copy(),
        state_raw=state[:, :3].copy(),
        images={"primary": images},
        instruction="reach the red block",
        control_hz=5.0,
    )


def _draw(block: np.ndarray, hand: np.ndarray) -> np.ndarray:
    image = np.full((IMAGE_PX, IMAGE_PX, 3), 160, np.uint8)
    for place, colour in ((block, (200, 30, 30)), (hand, (30, 30, 60))):
        row, column = ((place / HALF_TABLE_M * 0.5 + 0.5) * (IMAGE_PX - 9)).clip(0, IMAGE_PX - 9).astype(int)
        image[row : row + 9, column : column + 9] = colour
    return image


def reaching_stream(folder: Path, *, episodes: int, held_out: int = 2, steps: int = 8) -> Path:
    made = [
        reaching_episode(seed, dataset=folder.name, steps=steps, split="train" if seed < episodes else "val")
        for seed in range(episodes + held_out)
    ]
    return write_stream(folder, made, episodes_per_shard=50)
