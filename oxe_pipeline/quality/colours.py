"""Audit of colour order: is a camera's red stored as blue?

Two cameras of one scene share its colours: when one of them fits the other only after red and blue are exchanged, one
of the two is stored the other way round. A camera alone is judged by what rooms look like (wood, skin, cardboard and
lamps are warm), which a blue table cloth can fool; so only pictures next to without warm tones are called suspect, and
nothing here is ever called a fault.
"""

from itertools import combinations

import numpy as np

from oxe_pipeline.quality.finding import Finding
from oxe_pipeline.quality.thumbnails import Thumbnails

AUDIT = "colour_order"
MIN_EPISODES = 5
MIN_UNLIKE = 2
"""Episodes stored unlike the others, below which it may be one odd scene."""
DARK = 60
"""Sum of the three channels (0 to 765) below which a pixel has no colour worth counting."""
RED_BLUE_BINS, GREEN_BINS = np.linspace(-0.5, 0.5, 22), np.linspace(-0.6, 0.6, 13)
"""Of (R-B)/(R+G+B) and (2G-R-B)/(R+G+B); exchanging red and blue mirrors the first."""
SHARED, BETTER = 0.5, 0.2
"""Least overlap of two cameras' colours after the exchange, and by how much it must be better than before. Overlaps
seen on good data, before and after: BridgeData V2 0.83 and 0.56; simulated table with wrist camera 0.73 and 0.18."""
WARM_SHARE = 0.1
"""Warm part of all colour (red over blue). Good cameras seen: 0.65 to 0.99."""


def judge(sample: Thumbnails) -> list[Finding]:
    """colour_order for each camera, and for each two cameras "a+b" whose colours tell."""
    pictures = {camera: np.array([view.thumbnail for view in sample.views(camera)]) for camera in sample.cameras()}
    found = [_alone(camera, thumbnails) for camera, thumbnails in pictures.items()]
    return found + [_together(a, b, pictures) for a, b in combinations(sorted(pictures), 2)]


def _alone(camera: str, thumbnails: np.ndarray) -> Finding:
    warm = warm_share(thumbnails)
    turned = _differently_stored(thumbnails)
    numbers = {"episodes": len(thumbnails), "warm_share": warm, "episodes_exchanged": turned}
    tones = f"{warm:.0%} of the colour in {len(thumbnails)} sampled episodes is warm"
    remedy = "Look at a frame; if red is blue, say `colour: bgr` for the camera in the spec."
    if turned >= MIN_UNLIKE and len(thumbnails) >= MIN_EPISODES:
        evidence = f"{turned} of {len(thumbnails)} sampled episodes fit the others only with red and blue exchanged."
        return Finding(
            audit=AUDIT, subject=camera, verdict="suspect", evidence=evidence, numbers=numbers, remedy=remedy
        )
    if len(thumbnails) >= MIN_EPISODES and warm <= WARM_SHARE:
        evidence = f"{tones}; rooms, wood and skin are warm, so red and blue may be exchanged."
        return Finding(
            audit=AUDIT, subject=camera, verdict="suspect", evidence=evidence, numbers=numbers, remedy=remedy
        )
    evidence = f"{tones}; a camera alone cannot prove its colour order."
    return Finding(audit=AUDIT, subject=camera, verdict="unknown", evidence=evidence, numbers=numbers)


def _together(a: str, b: str, pictures: dict[str, np.ndarray]) -> Finding:
    subject, enough = f"{a}+{b}", min(len(pictures[a]), len(pictures[b])) >= MIN_EPISODES
    first, second = _colours(pictures[a]), _colours(pictures[b])
    plain, exchanged = _overlap(first, second), _overlap(first, second[::-1])
    numbers = {"overlap": plain, "overlap_exchanged": exchanged}
    overlap = f"the cameras share {plain:.0%} of their colours, {exchanged:.0%} with red and blue of one exchanged"
    if enough and exchanged >= SHARED and exchanged - plain >= BETTER:
        colder = min((a, b), key=lambda camera: warm_share(pictures[camera]))
        return Finding(
            audit=AUDIT,
            subject=subject,
            verdict="suspect",
            evidence=f"{overlap}; {colder} is the colder one.",
            numbers=numbers,
            remedy=f"Look at a frame of {colder}; if red is blue, say `colour: bgr` for it.",
        )
    if enough and plain >= SHARED and plain - exchanged >= BETTER:
        return Finding(audit=AUDIT, subject=subject, verdict="ok", evidence=f"{overlap}.", numbers=numbers)
    evidence = f"{overlap}: too alike, too different or too few episodes to tell."
    return Finding(audit=AUDIT, subject=subject, verdict="unknown", evidence=evidence, numbers=numbers)


def warm_share(thumbnails: np.ndarray) -> float:
    """0 to 1: of all difference between red and blue in [N, H, W, 3], the part where red is stronger; 0.5 for grey."""
    difference = thumbnails[..., 0].astype(np.float64) - thumbnails[..., 2]
    total = np.abs(difference).sum()
    return float(np.clip(difference, 0, None).sum() / total) if total else 0.5


def _colours(thumbnails: np.ndarray) -> np.ndarray:
    """float64 [red-blue bins, green bins], sum 1: how often each hue occurs, brightness aside."""
    pixels = thumbnails.reshape(-1, 3).astype(np.float64)
    total = pixels.sum(axis=1)
    pixels, total = pixels[total > DARK], total[total > DARK]
    red, green, blue = pixels.T / total
    counts, _, _ = np.histogram2d(red - blue, 2 * green - red - blue, bins=[RED_BLUE_BINS, GREEN_BINS])
    return counts / max(counts.sum(), 1)


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.minimum(first, second).sum())


def _differently_stored(thumbnails: np.ndarray) -> int:
    """Episodes whose colours overlap with those of all others only after the exchange; at most half of them."""
    each = np.array([_colours(thumbnail) for thumbnail in thumbnails])
    others = (each.sum(axis=0) - each) / max(len(each) - 1, 1)
    plain = np.minimum(each, others).sum(axis=(1, 2))
    exchanged = np.minimum(each[:, ::-1], others).sum(axis=(1, 2))
    return int(((exchanged >= SHARED) & (exchanged - plain >= BETTER)).sum())
