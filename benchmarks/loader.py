"""How near the loader comes to the bare decode rate of the same images on the same cores, in one run.

    python -m benchmarks.loader [--stream DIR ...] [--image-px 224] [--rounds 5] [--json]

Three ways take turns, so that a noisy machine troubles all alike, and the medians of the rounds are compared: the
ceiling (threads that do nothing but decode the stream's JPEGs into memory they already have), our Loader, and our
StreamDataset in a plain torch DataLoader with two worker processes. Without --stream it makes two data sets of scenes
whose JPEGs have the entropy of real robot frames, about 18 kB at 224 px and quality 95 (see `benchmarks.scenes`).
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.scenes import make_scene_stream
from oxe_pipeline.loader.loader import make_loader, usable_cores
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.stream.reader import open_stream

BATCH_SIZE, CHUNK, WORKERS, PREFETCH = 64, 4, 2, 3
IMAGES_TAKEN = 1024


@dataclass(frozen=True, kw_only=True)
class Result:
    """Rates are medians over the rounds in samples/s; a sample is one step with the images of all its cameras."""

    cores: int
    cameras: int
    image_size: tuple[int, int]
    mean_image_bytes: int
    ceiling: float
    loader: float
    dataloader: float
    loader_share: float
    """Median over the rounds of the loader's rate over the ceiling of the same round."""
    dataloader_share: float
    first_batch_s: float
    """From opening the streams to the first batch, torch already imported."""
    peak_rss_mb: float
    """Of this process, mapped pages of the streams included."""


def measure(folders: list[Path], *, rounds: int, batches: int = 30) -> Result:
    """Times `batches` batches of each way, `rounds` times in turn, over the equally weighted streams in `folders`."""
    import torch.utils.data

    from oxe_pipeline.loader.dataset import StreamDataset

    started = time.perf_counter()
    mixture = _open(folders)
    loader = make_loader(mixture, batch_size=BATCH_SIZE, chunk=CHUNK, prefetch=PREFETCH)
    first = next(loader)
    first_batch_s = time.perf_counter() - started
    cameras = [name.removeprefix("image_") for name, value in first.items() if getattr(value, "ndim", 0) == 5]
    size = tuple(first[f"image_{cameras[0]}"].shape[2:4])
    dataset = StreamDataset(mixture, batch_size=BATCH_SIZE, chunk=CHUNK)
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=WORKERS)
    images = _images(mixture, cameras[0])
    buffer = np.empty((BATCH_SIZE * len(cameras), *size, 3), np.uint8)
    ways: dict[str, Callable[[], float]] = {
        "ceiling": lambda: _ceiling_rate(images, buffer, batches),
        "loader": lambda: _rate(loader, PREFETCH, batches),
        "dataloader": lambda: _rate(iter(data_loader), 2 * WORKERS, batches),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            # Making batches ahead must not go on into the turn of the next way. Workers end with their iterator.
            loader.close()
            rates[name].append(way())
    loader.close()
    return Result(
        cores=usable_cores(),
        cameras=len(cameras),
        image_size=size,
        mean_image_bytes=round(statistics.mean(map(len, images))),
        **{name: statistics.median(found) for name, found in rates.items()},
        loader_share=_share(rates["loader"], rates["ceiling"]),
        dataloader_share=_share(rates["dataloader"], rates["ceiling"]),
        first_batch_s=first_batch_s,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def _open(folders: list[Path]) -> Mixture:
    streams = {stream.name: stream for stream in map(open_stream, folders)}
    return Mixture(streams, Schedule.from_weights(dict.fromkeys(streams, 1)), seed=0)


def _images(mixture: Mixture, camera: str) -> list[memoryview]:
    """Images of one camera at samples of the mixture: what the loader reads, in the order in which it does."""
    places = zip(*(array.tolist() for array in mixture.locate(np.arange(IMAGES_TAKEN))), strict=True)
    found = [mixture.datasets[dataset].stream.image(episode, step, camera) for dataset, episode, step in places]
    return [image for image in found if len(image)]


def _ceiling_rate(images: list[memoryview], buffer: np.ndarray, batches: int) -> float:
    import simplejpeg

    # Whichever thread is free takes the next image: fixed shares would wait for a core that is held up elsewhere, and a
    # ceiling that is too low flatters the loader.
    numbers = iter(range(batches * len(buffer)))

    def decode(_: int) -> None:
        for number in numbers:
            simplejpeg.decode_jpeg(images[number % len(images)], "RGB", buffer=buffer[number % len(buffer)])

    started = time.perf_counter()
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(decode, range(usable_cores())))
    return batches * BATCH_SIZE / (time.perf_counter() - started)


def _rate(source: Iterator[dict], made_ahead: int, batches: int) -> float:
    """Samples per second, after as many batches as are made ahead: by then all threads or workers are at it."""
    for _ in range(made_ahead):
        next(source)
    started = time.perf_counter()
    for _ in range(batches):
        next(source)
    return batches * BATCH_SIZE / (time.perf_counter() - started)


def _share(rates: list[float], ceilings: list[float]) -> float:
    return statistics.median(rate / ceiling for rate, ceiling in zip(rates, ceilings, strict=True))


def _print_table(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    height, width = result.image_size
    kilobytes = result.mean_image_bytes / 1000
    table = Table(title=f"{result.cameras} cameras, {height}x{width} JPEG of {kilobytes:.1f} kB, {result.cores} cores")
    for heading in ("way", "samples/s", "images/s", "of the ceiling, per round"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for way, rate, share in (
        ("bare decode (ceiling)", result.ceiling, 1.0),
        ("make_loader, threads", result.loader, result.loader_share),
        (f"DataLoader, {WORKERS} workers", result.dataloader, result.dataloader_share),
    ):
        table.add_row(way, f"{rate:,.0f}", f"{rate * result.cameras:,.0f}", f"{share:.1%}")
    console = Console()
    console.print(table)
    console.print(f"first batch after {result.first_batch_s:.2f} s; peak RSS {result.peak_rss_mb:,.0f} MB")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__.split("\n")[0])
    parser.add_argument("--stream", type=Path, nargs="+", help="streams to read; default: two that are made up")
    parser.add_argument("--image-px", type=int, default=224, help="side of the images made up (default 224)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is timed (default 5)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error(f"--rounds must be 1 or more, is {arguments.rounds}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            folders = arguments.stream or [
                make_scene_stream(
                    Path(folder) / name, name, episodes=32, steps=60, image_px=arguments.image_px, seed=seed
                )
                for seed, name in enumerate(("scenes_a", "scenes_b"))
            ]
            result = measure(folders, rounds=arguments.rounds)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(asdict(result), indent=1))
    else:
        _print_table(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
