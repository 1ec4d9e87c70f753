"""LitData: steps packed into chunk files by `optimize`, read by its StreamingDataset and StreamingDataLoader."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.peers.episodes import Episode
from benchmarks.peers.records import BATCH_SIZE, WORKERS, decoded, endless, stacked_tensors

PACKAGE = "litdata"
MADE_AHEAD = 4
VARIANTS = {
    "workers": f"optimize(chunk_bytes='64MB'), StreamingDataset(shuffle=True), "
    f"StreamingDataLoader(num_workers={WORKERS}): its README",
}


def write(episodes: Iterable[Episode], folder: Path) -> None:
    import litdata

    kept = list(episodes)
    litdata.optimize(
        fn=_records, inputs=kept, output_dir=str(folder), chunk_bytes="64MB", num_workers=1, start_method="fork"
    )


def _records(episode: Episode) -> Iterator[dict]:
    yield from episode.records()


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    import litdata

    class DecodedSteps(litdata.StreamingDataset):
        def __getitem__(self, index) -> dict:
            return decoded(super().__getitem__(index))

    steps = DecodedSteps(str(folder), shuffle=True, drop_last=True)
    return endless(
        litdata.StreamingDataLoader(
            steps, batch_size=BATCH_SIZE, num_workers=WORKERS, persistent_workers=True, collate_fn=stacked_tensors
        )
    )
