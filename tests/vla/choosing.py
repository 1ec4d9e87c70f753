"""A task in which language decides, as a real stream: two blocks, red and blue, and the instruction says which.

The hand, which is not seen, moves towards the named block; which side that is on is drawn anew in each episode. So
neither the image nor the instruction alone tells the action, which is one slot: to the left or to the right, in metres.
"""

from pathlib import Path

import numpy as np

from oxe_pipeline.episode import Episode
from tests.synthetic import write_stream

IMAGE_PX = 64
STEP_M = 0.05
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


def choosing_episode(seed: int, *, dataset: str, split: str, steps: int = 3) -> Episode:
    import simplejpeg

    rng = np.random.default_rng(seed)
    colour, red_left = ("red", "blue")[rng.integers(2)], bool(rng.integers(2))
    goes_left = (colour == "red") == red_left
    action, state, images = np.zeros((steps, 32), np.float32), np.zeros((steps, 40), np.float32), []
    picture = _draw(red_left, rng)
    for step in range(steps):
        action[step, 1] = (STEP_M if goes_left else -STEP_M) + rng.normal(0, 0.004)
        images.append(simplejpeg.encode_jpeg(picture, quality=90))
    action_mask, state_mask = np.zeros(32, bool), np.zeros(40, bool)
    action_mask[1] = state_mask[1] = True
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
        instruction=f"go to the {colour} block",
        control_hz=5.0,
    )


def _draw(red_left: bool, rng: np.random.Generator) -> np.ndarray:
    image = np.full((IMAGE_PX, IMAGE_PX, 3), 160, np.uint8)
    for colour, left in (("red", red_left), ("blue", not red_left)):
        row, column = rng.integers(16, 32), rng.integers(0, 8) + (4 if left else 36)
        image[row : row + 16, column : column + 16] = COLOURS[colour]
    return image


def choosing_stream(folder: Path, *, episodes: int, held_out: int) -> Path:
    made = [
        choosing_episode(seed, dataset=folder.name, split="train" if seed < episodes else "val")
        for seed in range(episodes + held_out)
    ]
    return write_stream(folder, made, episodes_per_shard=100)
