"""How near the loader comes to the bare decode rate of the same images on the same cores, in one run.

    python -m benchmarks.loader [--stream DIR ...] [--image-px 224] [--rounds 5] [--jpegs DIR] [--json]
    python -m benchmarks.loader --peers ENVIRONMENTS

The second form goes on to `benchmarks.peers.compare`: other loaders on the same episodes, in one run with ours.

The ways take turns, so that a noisy machine troubles all alike; shares are medians over the rounds, each against the
ceiling of its round (see `benchmarks.ceiling`). Ours: `make_loader` exact, with fast decoding, and with a resize to 7/8
on the CPU; StreamDataset in a plain torch DataLoader with two worker processes; and `augment` of one finished batch,
alone, to be added to the time of decoding it. Without --stream it makes two data sets of scenes whose JPEGs have the
entropy of real robot frames, about 18 kB at 224 px and quality 95 (see `benchmarks.scenes`).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.ceiling import BATCH_SIZE, PixelDifference, ceiling_rate, fast_difference, images_in_order
from benchmarks.process_memory import memory_mb
from benchmarks.scenes import make_scene_stream
from oxe_pipeline.loader.augment import AugmentOptions, augment
from oxe_pipeline.loader.loader import Loader, make_loader, usable_cores
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.stream.reader import open_stream

CHUNK, WORKERS, PREFETCH = 4, 2, 3
IMAGES_COMPARED = 64
CEILING = "bare decode (ceiling)"
_KEPT = 7 / 8
"""Side of the resized, and of the cut, images as a share of the stored side: 256 to 224 pixels."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A sample is one step with the images of all its cameras."""

    name: str
    samples_per_s: float
    """Median over the rounds."""
    share: float
    """Median over the rounds of its rate over the ceiling of the same round."""


@dataclass(frozen=True, kw_only=True)
class Result:
    cores: int
    cameras: int
    image_size: tuple[int, int]
    mean_image_bytes: int
    ways: list[Way]
    fast_differences: dict[str, PixelDifference]
    """By what was decoded."""
    first_batch_s: float
    """From opening the streams to the first batch, torch already imported."""
    anonymous_mb: float
    """Memory of this process beyond the page cache with the first loader at work, torch included."""
    imports_mb: float
    """The part of it that was there before the streams were opened."""


def measure(folders: list[Path], *, rounds: int, batches: int = 20, jpegs: Path | None = None) -> Result:
    """Times `batches` batches of each way, `rounds` times in turn, over the equally weighted streams in `folders`.

    Fast decoding is compared on their images and, if given, on the .jpg files below `jpegs`.
    """
    import torch.utils.data

    from oxe_pipeline.loader.dataset import StreamDataset

    imports_mb = memory_mb()["anon"]
    started = time.perf_counter()
    mixture = _open(folders)
    exact = _loader(mixture)
    first = next(exact)
    first_batch_s = time.perf_counter() - started
    cameras = [name.removeprefix("image_") for name, value in first.items() if getattr(value, "ndim", 0) == 5]
    size = tuple(first[f"image_{cameras[0]}"].shape[2:4])
    _rate(exact, 2 * PREFETCH, 2 * PREFETCH)
    anonymous_mb = memory_mb()["anon"]
    less = (round(size[0] * _KEPT), round(size[1] * _KEPT))
    data_loader = torch.utils.data.DataLoader(
        StreamDataset(mixture, batch_size=BATCH_SIZE, chunk=CHUNK), batch_size=None, num_workers=WORKERS
    )
    images = images_in_order(mixture, cameras[0])
    buffer = np.empty((BATCH_SIZE * len(cameras), *size, 3), np.uint8)
    cut = AugmentOptions(crop_area=(_KEPT**2, _KEPT**2), image_size=less)
    ways: dict[str, Callable[[], float]] = {
        CEILING: lambda: ceiling_rate(images, buffer, batches),
        "make_loader, threads": _loader_rate(exact, batches),
        "make_loader, decode='fast'": _loader_rate(_loader(mixture, decode="fast"), batches),
        f"make_loader, resized to {less[0]}x{less[1]}": _loader_rate(_loader(mixture, image_size=less), batches),
        f"DataLoader, {WORKERS} workers": lambda: _rate(iter(data_loader), 2 * WORKERS, batches),
        "augment alone: crop, stretch, colour": lambda: _augment_rate(first, AugmentOptions(), batches // 4),
        f"augment alone: cut {less[0]}x{less[1]}, colour": lambda: _augment_rate(first, cut, batches // 4),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(way())
    return Result(
        cores=usable_cores(),
        cameras=len(cameras),
        image_size=size,
        mean_image_bytes=round(statistics.mean(map(len, images))),
        ways=[
            Way(name=name, samples_per_s=statistics.median(found), share=_share(found, rates[CEILING]))
            for name, found in rates.items()
        ],
        fast_differences=_fast_differences(images, jpegs),
        first_batch_s=first_batch_s,
        anonymous_mb=anonymous_mb,
        imports_mb=imports_mb,
    )


def _fast_differences(images: list[memoryview], jpegs: Path | None) -> dict[str, PixelDifference]:
    differences = {"the streams' images": fast_difference(images[:IMAGES_COMPARED])}
    if jpegs:
        files = sorted(jpegs.rglob("*.jpg"))[:IMAGES_COMPARED]
        differences[f"{len(files)} files of {jpegs.name}"] = fast_difference([file.read_bytes() for file in files])
    return differences


def _open(folders: list[Path]) -> Mixture:
    streams = {stream.name: stream for stream in map(open_stream, folders)}
    return Mixture(streams, Schedule.from_weights(dict.fromkeys(streams, 1)), seed=0)


def _loader(mixture: Mixture, **options) -> Loader:
    return make_loader(mixture, batch_size=BATCH_SIZE, chunk=CHUNK, prefetch=PREFETCH, **options)


def _loader_rate(loader: Loader, batches: int) -> Callable[[], float]:
    def rate() -> float:
        found = _rate(loader, PREFETCH, batches)
        # Making batches ahead must not go on into the turn of the next way. Workers end with their iterator.
        loader.close()
        return found

    loader.close()
    return rate


def _rate(source: Iterator[dict], made_ahead: int, batches: int) -> float:
    """Samples per second, after as many batches as are made ahead: by then all threads or workers are at it."""
    for _ in range(made_ahead):
        next(source)
    started = time.perf_counter()
    for _ in range(batches):
        next(source)
    return batches * BATCH_SIZE / (time.perf_counter() - started)


def _augment_rate(batch: dict, options: AugmentOptions, batches: int) -> float:
    started = time.perf_counter()
    for seed in range(max(1, batches)):
        augment(batch, seed=seed, options=options)
    return max(1, batches) * BATCH_SIZE / (time.perf_counter() - started)


def _share(rates: list[float], ceilings: list[float]) -> float:
    return statistics.median(rate / ceiling for rate, ceiling in zip(rates, ceilings, strict=True))


def _print_table(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    height, width = result.image_size
    kilobytes = result.mean_image_bytes / 1000
    table = Table(title=f"{result.cameras} cameras, {height}x{width} JPEG of {kilobytes:.1f} kB, {result.cores} cores")
    for heading in ("way", "samples/s", "images/s", "of the ceiling", "time of a decode"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for way in result.ways:
        images_per_s = way.samples_per_s * result.cameras
        table.add_row(
            way.name, f"{way.samples_per_s:,.0f}", f"{images_per_s:,.0f}", f"{way.share:.1%}", f"{1 / way.share:.2f}"
        )
    console = Console()
    console.print(table)
    for what, fast in result.fast_differences.items():
        console.print(
            f"fast decoding of {what} differs by {fast.mean:.2f} grey levels in the mean, {fast.q999} at 99.9 %, "
            f"{fast.max} at most"
        )
    console.print(
        f"first batch after {result.first_batch_s:.2f} s; memory beyond the page cache {result.anonymous_mb:,.0f} MB, "
        f"{result.imports_mb:,.0f} MB of it Python, numpy and torch"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__.split("\n")[0])
    parser.add_argument("--stream", type=Path, nargs="+", help="streams to read; default: two that are made up")
    parser.add_argument("--image-px", type=int, default=224, help="side of the images made up (default 224)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is timed (default 5)")
    parser.add_argument("--jpegs", type=Path, help="compare fast decoding also on the .jpg files below this folder")
    parser.add_argument(
        "--peers", type=Path, metavar="ENVIRONMENTS", help="then other loaders (see benchmarks.peers.environments)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error(f"--rounds must be 1 or more, is {arguments.rounds}")
    if arguments.jpegs and next(arguments.jpegs.rglob("*.jpg"), None) is None:
        parser.error(f"--jpegs: no .jpg file below {arguments.jpegs}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            folders = arguments.stream or [
                make_scene_stream(
                    Path(folder) / name, name, episodes=32, steps=60, image_px=arguments.image_px, seed=seed
                )
                for seed, name in enumerate(("scenes_a", "scenes_b"))
            ]
            result = measure(folders, rounds=arguments.rounds, jpegs=arguments.jpegs)
            print(json.dumps(asdict(result), indent=1)) if arguments.json else _print_table(result)
            return _compare_peers(arguments, Path(folder)) if arguments.peers else 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _compare_peers(arguments: argparse.Namespace, folder: Path) -> int:
    from benchmarks.peers import compare

    given = ["--environments", str(arguments.peers), "--data", str(folder), "--image-px", str(arguments.image_px)]
    return compare.main([*given, "--rounds", str(arguments.rounds), *(["--json"] if arguments.json else [])])


if __name__ == "__main__":
    sys.exit(main())
