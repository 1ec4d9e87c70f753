"""Our loader as one of the ways compared: mixture, masks, normalised vectors, action chunks and instructions all on."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.episodes import CAMERAS, CHUNK
from benchmarks.peers.records import BATCH_SIZE, WORKERS

PACKAGE = "oxe-pipeline"
MADE_AHEAD = 4
SIZE = 224
VARIANTS = {
    "threads": "make_loader, a thread per core, 3 batches ahead",
    "fast": "the same with decode='fast': the fast inverse DCT, as TensorFlow's decoder does by default",
    "dataloader": f"StreamDataset in torch's DataLoader(num_workers={WORKERS})",
    "to_224": "make_loader(image_size=224), a thread per core, 3 batches ahead, resized on the CPU",
}


def open_batches(folder: Path, variant: str) -> Iterator[dict]:
    """Endless batches of the stream in `folder`."""
    from oxe_pipeline.loader.loader import make_loader
    from oxe_pipeline.mixture.mixture import Mixture
    from oxe_pipeline.mixture.schedule import Schedule
    from oxe_pipeline.stream.reader import open_stream

    source: Iterator[dict]
    stream = open_stream(folder)
    mixture = Mixture({stream.name: stream}, Schedule.from_weights({stream.name: 1}), seed=0)
    if variant == "dataloader":
        import torch.utils.data

        from oxe_pipeline.loader.dataset import StreamDataset

        steps = StreamDataset(mixture, batch_size=BATCH_SIZE, chunk=CHUNK)
        source = iter(torch.utils.data.DataLoader(steps, batch_size=None, num_workers=WORKERS))
    else:
        size, decode = SIZE if variant == "to_224" else None, "fast" if variant == "fast" else "exact"
        source = make_loader(mixture, batch_size=BATCH_SIZE, chunk=CHUNK, image_size=size, decode=decode)
    for batch in source:
        # Named as the peers' are; nothing is copied.
        yield {**{camera: batch[f"image_{camera}"][:, 0] for camera in CAMERAS}, **batch}
