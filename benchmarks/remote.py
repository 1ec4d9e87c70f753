"""What a stream behind a URL costs against the same stream in a folder: first batch and rate, cold and warm cache.

    python -m benchmarks.remote [--megabytes 200] [--rounds 3] [--json]

nginx (Debian: nginx-light) serves a stream of scenes on loopback, so this is the cost of fetching, hashing and caching
without that of a network. The ways take turns; rates are medians over the rounds of one run, to be compared with each
other only. "cold" begins with an empty cache and counts the downloads in; "warm" finds every shard in it.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.scenes import CAMERAS, make_scene_stream
from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.stream.cache import CacheOptions
from oxe_pipeline.stream.reader import open_stream
from tests.stream.servers import nginx

BATCH_SIZE, CHUNK, IMAGE_PX, STEPS = 64, 4, 224, 40
BYTES_PER_IMAGE = 18_000
RUNS: tuple[str, ...] = ("folder", "cold", "warm")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Medians over the rounds."""

    way: str
    first_batch_s: float
    """From opening the stream to the first batch, torch already imported."""
    samples_per_s: float
    """From the first batch to as many samples as the stream has."""
    wait_share: float
    """Of that time, what the consumer waited for batches."""


def measure(megabytes: int, rounds: int) -> list[Row]:
    """One row for each of RUNS."""
    with tempfile.TemporaryDirectory(prefix="remote-") as temporary:
        work = Path(temporary)
        episodes = max(16, megabytes * 1_000_000 // (STEPS * len(CAMERAS) * BYTES_PER_IMAGE))
        make_scene_stream(work / "root" / "s", "s", episodes=episodes, steps=STEPS, image_px=IMAGE_PX, seed=0)
        batches = episodes * STEPS // BATCH_SIZE
        cache = CacheOptions(folder=work / "cache")
        with nginx(work / "root", work) as served:
            url = f"{served.url}/s"
            ways: dict[str, Callable[[], tuple[float, float, float]]] = {
                "folder": lambda: _epoch(str(work / "root" / "s"), None, batches),
                "cold": lambda: _cold_epoch(url, cache, batches),
                "warm": lambda: _epoch(url, cache, batches),
            }
            _epoch(str(work / "root" / "s"), None, 2)  # imports, page cache
            found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in RUNS}
            for _ in range(rounds):
                for way in RUNS:
                    found[way].append(ways[way]())
    rows = []
    for way, readings in found.items():
        first_batch_s, samples_per_s, wait_share = (statistics.median(values) for values in zip(*readings, strict=True))
        rows.append(Row(way=way, first_batch_s=first_batch_s, samples_per_s=samples_per_s, wait_share=wait_share))
    return rows


def _cold_epoch(url: str, cache: CacheOptions, batches: int) -> tuple[float, float, float]:
    shutil.rmtree(cache.folder, ignore_errors=True)
    return _epoch(url, cache, batches)


def _epoch(path: str, cache: CacheOptions | None, batches: int) -> tuple[float, float, float]:
    """Seconds to the first batch, samples/s after it, share of waiting."""
    started = time.perf_counter()
    mixture = Mixture({"s": open_stream(path, cache=cache)}, Schedule.from_weights({"s": 1}))
    with make_loader(mixture, batch_size=BATCH_SIZE, chunk=CHUNK) as loader:
        next(loader)
        first = time.perf_counter()
        waited_s = loader.wait_s
        for _ in range(batches - 1):
            next(loader)
        passed_s = time.perf_counter() - first
        return first - started, (batches - 1) * BATCH_SIZE / passed_s, (loader.wait_s - waited_s) / passed_s


def main(argv: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remote", description=__doc__.partition(".")[0])
    parser.add_argument("--megabytes", type=int, default=200, help="size of the stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON for machines instead of the table")
    options = parser.parse_args(argv)
    rows = measure(options.megabytes, options.rounds)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    print("| stream | first batch s | samples/s | of the folder's | waited |")
    print("|---|---|---|---|---|")
    for row in rows:
        share = row.samples_per_s / rows[0].samples_per_s
        print(
            f"| {row.way} | {row.first_batch_s:.2f} | {row.samples_per_s:,.0f} | {share:.0%} | {row.wait_share:.0%} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
