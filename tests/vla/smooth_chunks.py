"""Chunks of normalised actions as robots make them: slow waves, a gripper that switches, a slot that rests."""

import numpy as np


def smooth_chunk(rng: np.random.Generator, *, chunk: int, slots: int) -> np.ndarray:
    """float64 [chunk, slots] in [-1, 1]; the last slot is a gripper, the one before it rests."""
    time = np.linspace(0, 1, chunk)[:, None]
    phase, size = rng.uniform(0, 2 * np.pi, (2, 1, slots)), rng.uniform(0.1, 0.5, (2, 1, slots))
    values = sum(size[wave] * np.sin(2 * np.pi * 0.6 * (wave + 1) * time + phase[wave]) for wave in range(2))
    values[:, -2] = 0.1
    values[:, -1] = time[:, 0] < rng.uniform(-0.5, 1.5)
    return values


def smooth_chunks(count: int, *, chunk: int, slots: int = 7, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [smooth_chunk(rng, chunk=chunk, slots=slots) for _ in range(count)]
