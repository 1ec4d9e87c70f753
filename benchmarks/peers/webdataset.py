"""WebDataset: one tar member per column of a step, shards in random order, a shuffle buffer, batches made in workers.

Its format has no windows, so users store each sample complete; the shuffle is as wide as the buffer, not uniform.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers.episodes import CAMERAS, Episode
from benchmarks.peers.records import BATCH_SIZE, WORKERS, endless, stacked_tensors

PACKAGE = "webdataset"
MADE_AHEAD = 4
SHARD_BYTES = 64_000_000
SHUFFLE_BUFFER = 1000
VARIANTS = {
    "workers": f"shardshuffle=100, shuffle({SHUFFLE_BUFFER}), batched in the worker, WebLoader(batch_size=None, "
    f"num_workers={WORKERS}): the project's README and FAQ",
}


def write(episodes: Iterable[Episode], folder: Path) -> None:
    import webdataset

    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxsize=SHARD_BYTES, verbose=0) as shards:
        for number, episode in enumerate(episodes):
            for step, record in enumerate(episode.records()):
                shards.write(
                    {
                        "__key__": f"{number:06d}_{step:05d}",
                        **{f"{camera}.jpg": record[camera] for camera in CAMERAS},
                        "state.npy": record["state"],
                        "action.npy": record["action"],
                        "instruction.txt": record["instruction"],
                    }
                )


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    import webdataset

    samples = (
        webdataset.WebDataset(sorted(map(str, folder.glob("*.tar"))), shardshuffle=100, empty_check=False)
        .shuffle(SHUFFLE_BUFFER)
        .map(_sample)
        .batched(BATCH_SIZE, collation_fn=stacked_tensors, partial=False)
    )
    return endless(webdataset.WebLoader(samples, batch_size=None, num_workers=WORKERS, persistent_workers=True))


def _sample(members: dict) -> dict:
    import simplejpeg

    return {
        **{camera: simplejpeg.decode_jpeg(members[f"{camera}.jpg"]) for camera in CAMERAS},
        "state": np.load(io.BytesIO(members["state.npy"])),
        "action": np.load(io.BytesIO(members["action.npy"])),
        "instruction": members["instruction.txt"].decode(),
    }
