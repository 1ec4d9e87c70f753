"""Hugging Face datasets: Parquet files with the JPEG bytes in a binary column, map-style (uniform) or streamed."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers.episodes import CAMERAS, CHUNK, Episode
from benchmarks.peers.records import BATCH_SIZE, WORKERS, decoded, endless, stacked_tensors

PACKAGE = "datasets"
MADE_AHEAD = 4
EPISODES_PER_FILE = 25
SHUFFLE_BUFFER = 1000
VARIANTS = {
    "map": f"load_from_disk (Arrow, memory-mapped), DataLoader(shuffle=True, num_workers={WORKERS}): "
    "'Use with PyTorch' in its documentation",
    "streaming": f"Parquet, streaming=True, shuffle(buffer_size={SHUFFLE_BUFFER}), DataLoader(num_workers={WORKERS}): "
    "'Stream' in its documentation",
}


def write(episodes: Iterable[Episode], folder: Path) -> None:
    import datasets

    kept = list(episodes)
    for first in range(0, len(kept), EPISODES_PER_FILE):
        records = [record for episode in kept[first : first + EPISODES_PER_FILE] for record in _rows(episode)]
        rows = datasets.Dataset.from_list(records, features=_features())
        rows.to_parquet(folder / "parquet" / f"{first:06d}.parquet")
    whole = datasets.Dataset.from_parquet(_files(folder), cache_dir=str(folder / "cache"))
    whole.save_to_disk(folder / "arrow")


def _rows(episode: Episode) -> Iterator[dict]:
    for record in episode.records():
        yield {**record, "action": record["action"].ravel()}


def _features():
    from datasets import Features, Sequence, Value

    vectors = {"state": Sequence(Value("float32")), "action": Sequence(Value("float32"))}
    return Features({**{camera: Value("binary") for camera in CAMERAS}, **vectors, "instruction": Value("string")})


def _files(folder: Path) -> list[str]:
    return sorted(map(str, (folder / "parquet").glob("*.parquet")))


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    import datasets
    import torch.utils.data

    if variant == "map":
        rows = datasets.load_from_disk(str(folder / "arrow"))
        loader = torch.utils.data.DataLoader(
            rows,
            batch_size=BATCH_SIZE,
            shuffle=True,
            drop_last=True,
            num_workers=WORKERS,
            persistent_workers=True,
            collate_fn=_batch,
        )
        return endless(loader)
    files = {"train": _files(folder)}
    stream = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    loader = torch.utils.data.DataLoader(
        stream.shuffle(seed=0, buffer_size=SHUFFLE_BUFFER),
        batch_size=BATCH_SIZE,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        collate_fn=_batch,
    )
    return endless(loader)


def _batch(rows: list[dict]) -> dict:
    records = []
    for row in rows:
        state, action = np.asarray(row["state"], np.float32), np.asarray(row["action"], np.float32)
        records.append({**decoded(row), "state": state, "action": action.reshape(CHUNK, -1)})
    return stacked_tensors(records)
