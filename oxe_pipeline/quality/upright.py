"""Audit of how images stand: upside down, all of them or some.

No picture proves by itself which way is up, but the robot does: when the hand rises, what moves in a fixed camera's
image must rise too. The heights are compared with the hand's z, its x and y being accounted for, over a sample of
episodes. Episodes turned unlike the others of their camera are found by their thumbnails. A wrist camera moves with the
hand, so only the second holds for it.
"""

import numpy as np

from oxe_pipeline.quality.finding import Finding, Verdict
from oxe_pipeline.quality.thumbnails import Thumbnails

AUDIT = "upright"
MOVING_CAMERAS = ("wrist", "wrist_left")
MIN_EPISODES, MIN_FRAMES = 5, 60
MIN_UNLIKE = 2
"""Episodes turned unlike the others, below which it may be one odd scene."""
RISES, FALLS = 0.3, -0.5
"""Partial correlation of the hand's height and the height in the image. Good cameras seen: 0.25 to 0.8; the lower bound
is further off, because some base frames point z down and some cameras hang from the ceiling."""
ALIKE, BETTER = 0.6, 0.4
"""Least correlation of a turned thumbnail with the mean of the others, and by how much turning must improve it."""


def judge(sample: Thumbnails) -> list[Finding]:
    """One finding a camera."""
    found = []
    for camera in sample.cameras():
        views = list(sample.views(camera))
        turned = turned_unlike_others(np.array([view.thumbnail for view in views]))
        heights, frames = sum(view.heights for view in views), sum(view.frames for view in views)
        found.append(_camera(camera, len(views), turned, np.asarray(heights), frames))
    return found


def _camera(camera: str, episodes: int, turned: int, heights: np.ndarray, frames: int) -> Finding:
    if turned >= MIN_UNLIKE:
        return Finding(
            audit=AUDIT,
            subject=camera,
            verdict="suspect",
            numbers={"turned": turned, "episodes": episodes},
            evidence=f"{turned} of {episodes} sampled episodes fit the others only when turned upside down.",
            remedy="Look at the first frames of all episodes; give the two kinds a spec each.",
        )
    alike = f"all {episodes} sampled episodes stand alike"
    if camera in MOVING_CAMERAS:
        evidence = f"{alike}; nothing tells which way is up for a camera that moves with the hand."
        return Finding(
            audit=AUDIT, subject=camera, verdict="unknown", evidence=evidence, numbers={"episodes": episodes}
        )
    rising = partial_correlation(heights)
    numbers = {"episodes": episodes, "frames": frames, "correlation": rising}
    if frames < MIN_FRAMES or episodes < MIN_EPISODES:
        evidence = f"{alike}; {frames} frames show where the arm is, {MIN_FRAMES} are needed to tell which way is up."
        return Finding(audit=AUDIT, subject=camera, verdict="unknown", evidence=evidence, numbers=numbers)
    moves = f"height of the hand and height in the image correlate by {rising:+.2f} ({frames} frames)"
    verdict: Verdict = "ok" if rising >= RISES else "suspect" if rising <= FALLS else "unknown"
    endings = {"ok": ".", "suspect": ": what rises sinks in the image.", "unknown": ": too little to tell."}
    return Finding(
        audit=AUDIT,
        subject=camera,
        verdict=verdict,
        evidence=f"{moves}{endings[verdict]}",
        numbers=numbers,
        remedy="Look at a frame; if it is upside down, say `flip` for the camera in the spec."
        if verdict == "suspect"
        else "",
    )


def partial_correlation(products: np.ndarray) -> float:
    """Of the third and fourth of four variables, given the first two, from their sums of products [4, 4]; 0 where one
    of them never changes."""
    size = np.sqrt(np.diag(products))
    if not (size[2:] > 0).all():
        return 0.0
    scale = np.where(size > 0, size, 1.0)
    precision = np.linalg.inv(products / np.outer(scale, scale) + 1e-6 * np.eye(4))
    return float(-precision[2, 3] / np.sqrt(precision[2, 2] * precision[3, 3]))


def turned_unlike_others(thumbnails: np.ndarray) -> int:
    """How many of uint8 [N, H, W, 3] are like the mean of the others only after a vertical flip or half a turn."""
    if len(thumbnails) < MIN_EPISODES:
        return 0
    grey = thumbnails.mean(axis=-1)
    others = (grey.sum(axis=0) - grey) / (len(grey) - 1)
    plain = _correlations(grey, others)
    turned = np.maximum(_correlations(grey[:, ::-1], others), _correlations(grey[:, ::-1, ::-1], others))
    return int(((turned >= ALIKE) & (turned - plain >= BETTER)).sum())


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 [N] of two stacks of images [N, H, W]."""
    first = first - first.mean(axis=(1, 2), keepdims=True)
    second = second - second.mean(axis=(1, 2), keepdims=True)
    size = np.sqrt(np.square(first).sum(axis=(1, 2)) * np.square(second).sum(axis=(1, 2)))
    return np.divide((first * second).sum(axis=(1, 2)), size, out=np.zeros(len(first)), where=size > 0)
