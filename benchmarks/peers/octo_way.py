"""Octo's way: RLDS through TFDS and tf.data, batched by tf.data, read as numpy.

An adapter written from the documented order of operations, with the settings of Octo's language-conditioned fine-tuning
configuration (no goal images, shuffle buffer of 10,000, 16 parallel calls); it is not Octo's code.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.peers import rlds_data, rlds_frames
from benchmarks.peers.episodes import CAMERAS
from benchmarks.peers.records import BATCH_SIZE
from benchmarks.peers.rlds_frames import Augmentation

PACKAGE = "tensorflow-datasets"
MADE_AHEAD = 4
SIZE = 224
CALLS = 16
SHUFFLE_BUFFER = 10_000
_WRIST = Augmentation(crop_scale=None, brightness=0.1, contrast=(0.9, 1.1), saturation=(0.9, 1.1), hue=0.05)
AUGMENT = {"primary": replace(_WRIST, crop_scale=(0.8, 1.0), crop_ratio=(0.9, 1.1)), "wrist": _WRIST}
_SETTINGS = "shuffle buffer of 10,000 frames, 16 parallel calls, RAM budget 1 GB: scripts/configs/finetune_config.py"
VARIANTS = {
    "stored": f"no resize, which its configurations never leave out; {_SETTINGS}",
    "stored_augmented": f"no resize, its augmentation; {_SETTINGS}",
    "to_224": f"resized to 224 (Lanczos3, antialiased); {_SETTINGS}",
    "to_224_augmented": f"resized to 224 (Lanczos3, antialiased), its augmentation; {_SETTINGS}",
}

write = rlds_data.write


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    import tensorflow as tf

    episodes = rlds_frames.chunked_episodes(folder, normalise=_normal, goals=False, calls=CALLS)
    frames = rlds_frames.frames(
        episodes,
        shuffle_buffer=min(SHUFFLE_BUFFER, rlds_data.read_statistics(folder)["num_steps"]),
        size=SIZE if variant.startswith("to_224") else None,
        augment=AUGMENT if variant.endswith("augmented") else {},
        calls=CALLS,
    )
    batches = rlds_frames.within_a_gigabyte(frames.batch(BATCH_SIZE)).ignore_errors(log_warning=True)
    for batch in batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        yield {
            **{camera: batch["observation"][f"image_{camera}"][:, 0] for camera in CAMERAS},
            "state": batch["observation"]["proprio"][:, 0],
            "action": batch["action"],
            "instruction": batch["task"]["language_instruction"],
        }


def _normal(values, statistics: dict):
    """Mean 0, standard deviation 1."""
    return (values - statistics["mean"]) / ([deviation + 1e-8 for deviation in statistics["std"]])
