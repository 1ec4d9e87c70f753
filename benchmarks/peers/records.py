"""What the general loaders have in common: one record per step is decoded by simplejpeg, 64 of them make a batch."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from benchmarks.peers.episodes import CAMERAS

BATCH_SIZE = 64
WORKERS = 2


def decoded(record: dict) -> dict:
    """The record with its JPEGs as uint8 [H, W, 3]."""
    import simplejpeg

    return {**record, **{camera: simplejpeg.decode_jpeg(record[camera]) for camera in CAMERAS}}


def stacked(records: Sequence[dict]) -> dict:
    """A batch of numpy arrays: cameras uint8 [B, H, W, 3], state [B, 10], action [B, 4, 7], and B instructions."""
    batch = {name: np.stack([record[name] for record in records]) for name in (*CAMERAS, "state", "action")}
    return {**batch, "instruction": [record["instruction"] for record in records]}


def stacked_tensors(records: Sequence[dict]) -> dict:
    """`stacked` with tensors in place of arrays: a DataLoader's workers hand over tensors without pickling them."""
    import torch

    batch = stacked(records)
    return {name: value if name == "instruction" else torch.from_numpy(value) for name, value in batch.items()}


def endless(batches: Iterable[dict]) -> Iterator[dict]:
    """One pass after another."""
    while True:
        yield from batches
