"""MosaicML Streaming: steps in MDS shards, StreamingDataset's own shuffle, a torch DataLoader."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.peers.episodes import CAMERAS, Episode
from benchmarks.peers.records import BATCH_SIZE, WORKERS, decoded, endless, stacked_tensors
from benchmarks.peers.torchvision_operators import import_torchvision

PACKAGE = "mosaicml-streaming"
MADE_AHEAD = 4
VARIANTS = {
    "workers": f"MDSWriter (64 MiB shards), StreamingDataset(shuffle=True, batch_size={BATCH_SIZE}), "
    f"DataLoader(num_workers={WORKERS}): its README",
}


def write(episodes: Iterable[Episode], folder: Path) -> None:
    import_torchvision()
    import streaming

    columns = {**dict.fromkeys(CAMERAS, "bytes"), "state": "ndarray:float32:10", "action": "ndarray:float32:4,7"}
    with streaming.MDSWriter(out=str(folder), columns={**columns, "instruction": "str"}) as writer:
        for episode in episodes:
            for record in episode.records():
                writer.write(record)


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    import_torchvision()
    import streaming
    import torch.utils.data

    # A run that was killed leaves names in shared memory that the next one would trip over.
    streaming.base.util.clean_stale_shared_memory()

    class DecodedSteps(streaming.StreamingDataset):
        def __getitem__(self, at) -> dict:
            return decoded(super().__getitem__(at))

    steps = DecodedSteps(local=str(folder), shuffle=True, batch_size=BATCH_SIZE)
    loader: torch.utils.data.DataLoader = torch.utils.data.DataLoader(
        steps,
        batch_size=BATCH_SIZE,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
        collate_fn=stacked_tensors,
    )
    return endless(loader)
