"""OpenVLA's way: as Octo's, with a goal image for each image, single frames as numpy, and batches collated by torch.

An adapter written from the documented order of operations; it is not OpenVLA's code. Its own loader takes one camera;
here it has the two that all peers deliver. Prompt, tokeniser and the backbone's image transform are left out.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import rlds_data, rlds_frames
from benchmarks.peers.episodes import CAMERAS
from benchmarks.peers.records import BATCH_SIZE
from benchmarks.peers.rlds_frames import Augmentation

PACKAGE = "tensorflow-datasets"
MADE_AHEAD = 4
SIZE = 224
FRAME_CALLS, EPISODE_CALLS = 16, 1
SHUFFLE_BUFFER = 100_000
_RANGES = Augmentation(crop_scale=(0.9, 0.9), brightness=0.2, contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=0.05)
AUGMENT = dict.fromkeys(CAMERAS, _RANGES)
_SETTINGS = (
    "shuffle buffer of 100,000 frames or the whole data set, 1 and 16 parallel calls, uniform goals, "
    "DataLoader(num_workers=0): prismatic/vla/datasets/datasets.py, vla-scripts/finetune.py"
)
VARIANTS = {
    "stored": f"no resize, which its configurations never leave out; {_SETTINGS}",
    "stored_augmented": f"no resize, its augmentation; {_SETTINGS}",
    "to_224": f"resized to 224 (Lanczos3, antialiased); {_SETTINGS}",
    "to_224_augmented": f"resized to 224 (Lanczos3, antialiased), its augmentation; {_SETTINGS}",
}

write = rlds_data.write


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    import torch.utils.data

    episodes = rlds_frames.chunked_episodes(folder, normalise=_bounds_q99, goals=True, calls=EPISODE_CALLS)
    frames = rlds_frames.frames(
        episodes,
        shuffle_buffer=min(SHUFFLE_BUFFER, rlds_data.read_statistics(folder)["num_steps"]),
        size=SIZE if variant.startswith("to_224") else None,
        augment=AUGMENT if variant.endswith("augmented") else {},
        calls=FRAME_CALLS,
    )

    class Frames(torch.utils.data.IterableDataset):
        def __iter__(self) -> Iterator[dict]:
            for frame in rlds_frames.within_a_gigabyte(frames).as_numpy_iterator():
                yield {
                    **{camera: frame["observation"][f"image_{camera}"][0] for camera in CAMERAS},
                    "state": frame["observation"]["proprio"][0],
                    "action": frame["action"],
                    "instruction": frame["task"]["language_instruction"].decode().lower(),
                }

    return iter(torch.utils.data.DataLoader(Frames(), batch_size=BATCH_SIZE, num_workers=0))


def _bounds_q99(values, statistics: dict):
    """The 1st and 99th percentile to -1 and 1, clipped."""
    import tensorflow as tf

    low, high = tf.constant(statistics["q01"]), tf.constant(statistics["q99"])
    return tf.clip_by_value(2 * (values - low) / (high - low + 1e-8) - 1, -1.0, 1.0)
