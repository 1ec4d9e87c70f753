"""A drawn scene in place of a camera: cheap, the same on every machine, and such that a picture on its head, mirrored,
with exchanged channels or from another step is told at a glance.

A red square moves from left to right over a ramp that is dark at the top; the right edge is blue.
"""

import numpy as np

SQUARE_RED, EDGE_BLUE = 220, 200


def drawn_frames(steps: int, *, height: int, width: int, view: int = 0) -> np.ndarray:
    """uint8 [T, H, W, 3] RGB. `view` moves the square down, so that cameras differ. Deterministic."""
    frames = np.zeros((steps, height, width, 3), np.uint8)
    frames[..., :] = np.linspace(20, 120, height).astype(np.uint8)[None, :, None, None]
    frames[:, :, -max(1, width // 8) :] = (0, 0, EDGE_BLUE)
    side = max(2, min(height, width) // 4)
    for step in range(steps):
        left = (width - width // 8 - side) * step // max(1, steps - 1)
        top = min(height // 8 * (1 + view), height - side)
        frames[step, top : top + side, left : left + side] = (SQUARE_RED, 0, 0)
    return frames


def smooth_poses(steps: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [T, 3] in metres, float64 [T, 4] quaternions with w last) of a hand that sways by some centimetres and
    tenths of a radian before its base, tool pointing down. Deterministic."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    time = np.arange(steps)[:, None]
    swing = np.sin(rng.uniform(0, 6, 6) + time * rng.uniform(0.15, 0.4, 6))
    turned = Rotation.from_rotvec(0.15 * swing[:, 3:]) * Rotation.from_euler("x", np.pi)
    return (0.5, 0.0, 0.3) + 0.04 * swing[:, :3], turned.as_quat()


def smooth_joints(steps: int, count: int, *, seed: int) -> np.ndarray:
    """float64 [T, count]: joints that swing slowly within a radian. Deterministic."""
    rng = np.random.default_rng(seed)
    time = np.arange(steps)[:, None]
    return 0.5 * np.sin(rng.uniform(0, 6, count) + time * rng.uniform(0.05, 0.2, count))
