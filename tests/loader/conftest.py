"""A mixture of two small streams with different rates, slots, cameras and kinds of action."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_episode, write_stream

SPEC = {
    "action": [
        {"slots": "arm0.eef_position_delta", "source": "a[0:3]", "kind": "delta"},
        {"slots": "arm0.eef_rotation_delta", "source": "a[3:6]", "kind": "velocity"},
        {"slots": "arm0.gripper", "source": "a[6]"},
    ]
}


def make_episodes(name: str, lengths: list[int], *, split="train", **options) -> list:
    return [
        make_episode(seed, dataset=name, steps=steps, split="val" if seed % 4 == 3 else split, **options)
        for seed, steps in enumerate(lengths)
    ]


def open_mixture(folders: list[Path], seed: int = 7) -> Mixture:
    streams = {stream.name: stream for stream in map(open_stream, folders)}
    return Mixture(streams, Schedule.from_weights({name: 1 + i for i, name in enumerate(streams)}), seed=seed)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> list[Path]:
    """`slow`: 3 Hz, two cameras, episodes of one step among others; `fast`: 50 Hz, joint control, one camera."""
    root = tmp_path_factory.mktemp("loader")
    slow = write_stream(root / "slow", make_episodes("slow", [9, 1, 5, 4, 12, 1, 7, 6], control_hz=3.0), spec=SPEC)
    fast_episodes = make_episodes("fast", [30, 25, 2, 11, 18], control_hz=50.0, cameras=("primary",))
    for episode in fast_episodes:
        episode.action[:, 7:14] = np.sin(np.arange(len(episode))[:, None] + np.arange(7))
        episode.action[:, :6] = 0
        episode.action_mask[:] = False
        episode.action_mask[6:14] = True
    return [slow, write_stream(root / "fast", fast_episodes, episodes_per_shard=2)]


@pytest.fixture(scope="session")
def mixture(folders) -> Mixture:
    return open_mixture(folders)


def batch_hash(batch: dict) -> str:
    """Over every value of a batch, names and shapes included."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        value = batch[name]
        digest.update(f"{name} {getattr(value, 'shape', '')} {getattr(value, 'dtype', '')}".encode())
        digest.update(repr(value).encode() if isinstance(value, list) else value.numpy().tobytes())
    return digest.hexdigest()


def joined(batches: list[dict]) -> dict:
    """The batches of several ranks, or of steps in a row, as one."""
    import torch

    merged: dict = {name: torch.cat([b[name] for b in batches]) for name in batches[0] if name != "instruction"}
    return {**merged, "instruction": [text for b in batches for text in b["instruction"]]}
