"""Audit of each camera's frames from their encoded bytes: black, frozen, repeated, and one camera stored twice.

A camera's noise makes two JPEGs of the same scene differ, so equal bytes mean that no new frame was taken (simulated
cameras may truly see the same twice, which is why only steps in which the robot moves count). A black frame is told by
its size, and looked at only then, so that next to nothing is decoded. Traded away: behind a lens cap a noisy sensor
makes frames too large to be looked at.
"""

from itertools import pairwise

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding, counted, share_verdict
from oxe_pipeline.quality.image_headers import image_size
from oxe_pipeline.quality.tally import Sums, Tally
from oxe_pipeline.quality.thumbnails import small_image

AUDIT = "camera_frames"
BLACK, FROZEN, REPEATED, SAME = "black_frames", "frozen_camera", "repeated_frames", "same_camera"
BLACK_BELOW = 16
"""An image whose every value is below this shows nothing: a black JPEG decodes to a few, video black is 16."""
PLAIN_BYTES, PLAIN_BYTES_PER_PX = 1000, 0.03
"""A frame of one colour is hardly larger than its headers; any scene takes ten times as much."""
MAX_LOOKED_AT = 3
"""Different small frames of a camera and episode that are decoded at most."""
MIN_FRAMES = 5
"""Of an episode, below which a camera is not called frozen."""
MOST_REPEATED = 0.1
"""Share of moving steps that may repeat the frame before: a camera now and then misses one."""
FLAGS = {BLACK: "black_camera", FROZEN: "frozen_camera"}


def measure(episode: Episode, moving: np.ndarray | None) -> dict[str, Sums]:
    """Camera -> counts: `episodes`, `steps`, `black` frames, `black_episodes` (all frames), `frozen_episodes` (all
    frames equal though the robot moves half of the time), `moving` steps and `repeated` of them. Two cameras "a+b" ->
    `steps`, `same` frames. `moving`: idle_steps.moving_steps of the episode."""
    found: dict[str, Sums] = {}
    for camera, frames in episode.images.items():
        repeated = np.array([later == earlier for earlier, later in pairwise(frames)], bool)
        black = _black(frames)
        moved = moving[:-1] if moving is not None else np.ones(len(repeated), bool)
        if black == len(frames):  # one alarm is enough
            moved = np.zeros_like(moved)
        frozen = len(frames) >= MIN_FRAMES and repeated.all() and 2 * moved.sum() >= len(moved)
        found[camera] = {
            "episodes": 1,
            "steps": len(frames),
            "black": black,
            "black_episodes": int(black == len(frames)),
            "frozen_episodes": int(bool(frozen and moved.any())),
            "moving": int(moved.sum()),
            "repeated": int((repeated & moved).sum()),
        }
    cameras = [camera for camera, counts in found.items() if not counts["black_episodes"]]
    for number, camera in enumerate(cameras):
        for other in cameras[number + 1 :]:
            same = sum(a == b for a, b in zip(episode.images[camera], episode.images[other], strict=True))
            found[f"{camera}+{other}"] = {"steps": len(episode), "same": same}
    return found


def flags(sums: dict[str, Sums]) -> set[str]:
    """Quality flags of an episode with these counts: black_camera, frozen_camera."""
    cameras = [counts for counts in sums.values() if "black" in counts]
    found = set()
    if any(counts["black_episodes"] for counts in cameras):
        found.add(FLAGS[BLACK])
    if any(counts["frozen_episodes"] for counts in cameras):
        found.add(FLAGS[FROZEN])
    return found


def _black(frames: list[bytes]) -> int:
    """Black frames among encoded ones. At most MAX_LOOKED_AT are decoded; further small ones count as not black."""
    height, width = image_size(frames[0])
    plain = PLAIN_BYTES + PLAIN_BYTES_PER_PX * height * width
    looked_at: dict[bytes, bool] = {}
    black = 0
    for frame in frames:
        if len(frame) > plain:
            continue
        if frame not in looked_at and len(looked_at) < MAX_LOOKED_AT:
            looked_at[frame] = _is_black(frame)
        black += looked_at.get(frame, False)
    return black


def _is_black(frame: bytes) -> bool:
    try:
        return bool(small_image(frame).max() < BLACK_BELOW)
    except ValueError:  # damaged within; whoever decodes the stream meets it
        return False


def judge(tally: Tally, declared: Declared) -> list[Finding]:
    """black_frames, frozen_camera and repeated_frames of each camera, same_camera of each two."""
    found = []
    for subject, sums in tally.of(AUDIT):
        counts = {name: int(value) for name, value in sums.items()}
        found += [_same(subject, counts)] if "same" in counts else _camera(subject, counts)
    return found


def _camera(camera: str, counts: dict[str, int]) -> list[Finding]:
    episodes, black, frozen = counts["episodes"], counts["black_episodes"], counts["frozen_episodes"]
    repeated, moving = counts["repeated"], counts["moving"]
    share = repeated / max(moving, 1)
    seen = f"{counts['black']:,} of {counts['steps']:,} frames are black" if counts["black"] else "no frame is black"
    remedy = "Look at the episodes with black frames: the camera dropped out." if counts["black"] else ""
    if black:
        seen = f"{seen}; {counted(black, 'episode')} of {episodes:,} from end to end"
        remedy = "Say `missing: black` for the camera in the spec, or leave out episodes with flag black_camera."
    stuck = f"in {frozen:,} of {episodes:,} episodes" if frozen else f"in none of {counted(episodes, 'episode')}"
    again = f"{repeated:,} of {moving:,} ({share:.1%})" if repeated else f"none of {moving:,}"
    return [
        Finding(
            audit=BLACK,
            subject=camera,
            verdict=share_verdict(counts["black"], counts["steps"]),
            evidence=f"{seen}.",
            numbers={"black_frames": counts["black"], "frames": counts["steps"], "black_episodes": black},
            remedy=remedy,
        ),
        Finding(
            audit=FROZEN,
            subject=camera,
            verdict=share_verdict(frozen, episodes),
            evidence=f"{stuck} the camera shows the same frame from end to end while the robot moves.",
            numbers={"frozen_episodes": frozen, "episodes": episodes},
            remedy="Leave out episodes with flag frozen_camera by an overlay." if frozen else "",
        ),
        Finding(
            audit=REPEATED,
            subject=camera,
            verdict="suspect" if share > MOST_REPEATED else "ok",
            evidence=f"of the steps in which the robot moves, {again} show the same frame as the step before.",
            numbers={"repeated": repeated, "moving": moving},
            remedy="The camera is slower than the control rate, or frames were lost." if share > MOST_REPEATED else "",
        ),
    ]


def _same(cameras: str, counts: dict[str, int]) -> Finding:
    same, steps = counts["same"], counts["steps"]
    verdict = share_verdict(same, steps)
    return Finding(
        audit=SAME,
        subject=cameras,
        verdict=verdict,
        evidence=f"{f'{same:,} of {steps:,} frames' if same else 'no frames'} are the same bytes in both cameras.",
        numbers={"same": same, "steps": steps},
        remedy="Check the camera keys in the spec: one stream stands for two." if same else "",
    )
