"""Grain: ArrayRecord as its documentation recommends, index shuffle (uniform), threads or worker processes."""

import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.peers.episodes import Episode
from benchmarks.peers.records import BATCH_SIZE, WORKERS, decoded, stacked

PACKAGE = "grain"
MADE_AHEAD = 12
EPISODES_PER_FILE = 100
VARIANTS = {
    "threads": "ArrayRecord (group_size:1), MapDataset.shuffle, to_iter_dataset with the default ReadOptions (16 "
    "threads, 500 samples ahead): its DataLoader guide",
    "processes": f"the same with mp_prefetch(num_workers={WORKERS}): its DataLoader guide",
}


def write(episodes: Iterable[Episode], folder: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    kept = list(episodes)
    for first in range(0, len(kept), EPISODES_PER_FILE):
        # One record per group: the docs' setting for random access.
        writer = ArrayRecordWriter(str(folder / f"{first:06d}.array_record"), "group_size:1")
        for episode in kept[first : first + EPISODES_PER_FILE]:
            for record in episode.records():
                writer.write(pickle.dumps(record))
        writer.close()


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    import grain

    source = grain.sources.ArrayRecordDataSource(sorted(map(str, folder.glob("*.array_record"))))
    steps = grain.MapDataset.source(source).shuffle(seed=0).repeat().map(_sample).to_iter_dataset()
    batches = steps.batch(BATCH_SIZE, drop_remainder=True, batch_fn=stacked)
    if variant == "processes":
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=WORKERS))
    return iter(batches)


def _sample(record: bytes) -> dict:
    return decoded(pickle.loads(record))
