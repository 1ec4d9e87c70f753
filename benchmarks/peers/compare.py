"""Our loader beside other loaders, in one run, on the same episodes: rates as shares of the bare decode rate.

    python -m benchmarks.peers.environments ENVIRONMENTS
    python -m benchmarks.peers.compare --environments ENVIRONMENTS --data DIR [--peers litdata grain:threads ...]

All loaders deliver 64 samples of two cameras, state, a chunk of 4 actions and the instruction. They take turns; before
and after each turn the ceiling is measured anew (threads that do nothing but decode the same JPEGs), so that a machine
that is slower for a while is slower for both. Between turns a loader is stopped. A peer that cannot be installed or
fails has a line that says why. DIR keeps the episodes in every format for later runs.
"""

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.ceiling import ceiling_rate
from benchmarks.peers.environments import ENVIRONMENTS, python_of
from benchmarks.peers.episodes import CAMERAS
from benchmarks.peers.export import EPISODES, export, hand_over
from benchmarks.peers.moving_scenes import make_moving_stream
from benchmarks.peers.peer_process import PeerError, PeerProcess
from benchmarks.peers.records import BATCH_SIZE
from oxe_pipeline.loader.loader import usable_cores
from oxe_pipeline.stream.reader import open_stream

OURS = "ours"
DEFAULT_WAYS = (
    "ours:threads",
    "ours:fast",
    "ours:dataloader",
    "grain:threads",
    "grain:processes",
    "litdata:workers",
    "datasets:map",
    "datasets:streaming",
    "streaming:workers",
    "webdataset:workers",
    "lerobot:video",
    "lerobot:image",
    "octo_way:to_224",
    "octo_way:to_224_augmented",
    "octo_way:stored",
    "openvla_way:to_224",
    "openvla_way:to_224_augmented",
    "openvla_way:stored",
)
_TIMEOUT_S = 600.0
_CEILING_BATCHES = 40


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way of loading. Everything but `way`, `settings` and `failure` is None where it failed."""

    way: str
    settings: str
    failure: str | None = None
    version: str | None = None
    samples_per_s: float | None = None
    """Median over the rounds."""
    share_of_ceiling: float | None = None
    """Median over the rounds of its rate over the ceiling, the mean of a reading right before and one right after."""
    ours_over_it: float | None = None
    """Median over the rounds of the first of our ways' share of the ceiling over its own."""
    first_batch_s: float | None = None
    """From opening the data to the first batch; importing the packages is part of it."""
    memory_mb: float | None = None
    """Most at the end of a turn, over all its processes, page cache left out."""


@dataclass
class _Readings:
    """What the turns of one way gave, round by round."""

    first: dict
    rates: list[float]
    shares: list[float]
    memory_mb: float = 0.0


def compare(
    stream: Path, data: Path, environments: Path, ways: list[str], *, rounds: int, batches: int, seconds: float
) -> list[Row]:
    """Exports the stream for each way that lacks it, and times all ways in turn; ways are "peer:variant".

    A turn ends after `batches` batches or `seconds`, whichever comes first.
    """
    failures: dict[str, str] = {}
    readings: dict[str, _Readings] = {}
    with contextlib.ExitStack() as stack:
        running: dict[str, PeerProcess] = {}
        for way in ways:
            try:
                process = stack.enter_context(_start(way, stream, data, environments))
                readings[way] = _Readings(process.first_batch(timeout_s=_TIMEOUT_S), [], [])
                running[way] = process
            except RuntimeError as error:
                failures[way] = str(error)
        ceiling = _ceiling(stream)
        ceiling_rate = ceiling()
        for _ in range(rounds):
            for way, process in running.items():
                if way in failures:
                    continue
                reading = readings[way]
                try:
                    rate, memory_mb = process.turn(batches=batches, seconds=seconds, timeout_s=_TIMEOUT_S)
                except PeerError as error:
                    failures[way] = str(error)
                    continue
                reading.rates.append(rate)
                before, ceiling_rate = ceiling_rate, ceiling()
                reading.shares.append(2 * rate / (before + ceiling_rate))
                reading.memory_mb = max(memory_mb, reading.memory_mb)
    ours = next((readings[way].shares for way in ways if way.startswith(OURS) and way not in failures), None)
    return [_row(way, readings.get(way), failures.get(way), ours) for way in ways]


def _row(way: str, reading: _Readings | None, failure: str | None, ours: list[float] | None) -> Row:
    settings = _adapter(way).VARIANTS[way.partition(":")[2]]
    if failure or reading is None:
        return Row(way=way, settings=settings, failure=failure)
    return Row(
        way=way,
        settings=settings,
        version=reading.first["version"],
        samples_per_s=statistics.median(reading.rates),
        share_of_ceiling=statistics.median(reading.shares),
        ours_over_it=statistics.median(a / b for a, b in zip(ours, reading.shares, strict=True)) if ours else None,
        first_batch_s=reading.first["first_batch_s"],
        memory_mb=reading.memory_mb,
    )


def _adapter(way: str):
    return import_module(f"benchmarks.peers.{way.partition(':')[0]}")


def _start(way: str, stream: Path, data: Path, environments: Path) -> PeerProcess:
    peer, _, variant = way.partition(":")
    log = data / f"{peer}_{variant}.log"
    if peer == OURS:
        return PeerProcess(Path(sys.executable), peer, variant, stream, log)
    python = python_of(environments, peer)
    return PeerProcess(python, peer, variant, export(peer, data / EPISODES, data, environments), log)


def _ceiling(stream: Path) -> Callable[[], float]:
    """Measures the samples per second of nothing but decoding, all cores, images of both cameras at random steps."""
    opened = open_stream(stream)
    rng = np.random.default_rng(0)
    lengths = opened.episodes.length
    places = [(int(e), int(rng.integers(lengths[e]))) for e in rng.integers(len(lengths), size=1024)]
    images = [opened.image(episode, step, camera) for episode, step in places for camera in CAMERAS]
    height, width = _size(images[0])
    buffer = np.empty((BATCH_SIZE * len(CAMERAS), height, width, 3), np.uint8)
    return lambda: ceiling_rate(images, buffer, _CEILING_BATCHES)


def _size(image) -> tuple[int, int]:
    import simplejpeg

    height, width, *_ = simplejpeg.decode_jpeg_header(image)
    return height, width


def _prepared(stream: Path | None, folder: Path, *, episodes: int, steps: int, image_px: int) -> tuple[Path, Path]:
    """The stream, made up if none is given, and the folder with its exports; what an earlier run left is used."""
    if stream is None:
        stream = folder / f"scenes_{image_px}px_{episodes}x{steps}"
        if not (stream / "manifest.json").exists():
            make_moving_stream(stream, episodes=episodes, steps=steps, image_px=image_px)
    opened = open_stream(stream)
    data = folder / f"exports_{opened.identity[:12]}"
    # A peer's folder appears complete or not at all; the hand-over does not, so it is written anew if it is short.
    if len(list((data / EPISODES).glob("*.npz"))) != len(opened.episodes.length):
        hand_over(opened, data)
    return stream, data


def _print_table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"2 cameras, chunk 4, batch {BATCH_SIZE}, {usable_cores()} cores")
    for heading in ("way", "version", "samples/s", "of ceiling", "ours over it", "first batch, s", "memory, MB"):
        table.add_column(heading, justify="left" if heading in ("way", "version") else "right", no_wrap=True)
    for row in rows:
        if row.failure:
            table.add_row(row.way, "-", "failed", "", "", "", "")
            continue
        times = f"{row.ours_over_it:.1f}x" if row.ours_over_it else ""
        table.add_row(
            row.way,
            row.version,
            f"{row.samples_per_s:,.0f}",
            f"{row.share_of_ceiling:.1%}",
            times,
            f"{row.first_batch_s:.1f}",
            f"{row.memory_mb:,.0f}",
        )
    console = Console(width=max(100, Console().width))
    console.print(table)
    for row in rows:
        console.print(f"{row.way}: {row.failure or row.settings}", highlight=False, markup=False)


def main(argv: list[str] | None = None) -> int:
    known = [f"{peer}:{variant}" for peer in ("ours", *ENVIRONMENTS) for variant in _adapter(peer).VARIANTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.compare", description=__doc__.split("\n")[0])
    parser.add_argument("--environments", type=Path, required=True, help="folder of benchmarks.peers.environments")
    parser.add_argument("--data", type=Path, required=True, help="folder for the episodes in every format")
    parser.add_argument("--stream", type=Path, help="stream to read; default: one that is made up")
    parser.add_argument(
        "--peers", nargs="+", metavar="PEER[:VARIANT]", default=list(DEFAULT_WAYS), help=", ".join(known)
    )
    parser.add_argument("--episodes", type=int, default=400, help="of the stream made up (default 400)")
    parser.add_argument("--steps", type=int, default=38, help="per episode made up (default 38)")
    parser.add_argument("--image-px", type=int, default=224, help="side of the images made up (default 224)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way (default 5)")
    parser.add_argument("--batches", type=int, default=40, help="most batches in a turn (default 40)")
    parser.add_argument("--seconds", type=float, default=8.0, help="a turn ends after this time (default 8)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args(argv)
    ways = [way for name in arguments.peers for way in known if name in (way, way.partition(":")[0])]
    unknown = [name for name in arguments.peers if not any(name in (way, way.partition(":")[0]) for way in known)]
    if unknown:
        parser.error(f"--peers {unknown[0]}: not one of {', '.join(known)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds must be 1 or more, is {arguments.rounds}")
    sizes = {"episodes": arguments.episodes, "steps": arguments.steps, "image_px": arguments.image_px}
    try:
        stream, data = _prepared(arguments.stream, arguments.data.resolve(), **sizes)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    turns = {"rounds": arguments.rounds, "batches": arguments.batches, "seconds": arguments.seconds}
    rows = compare(stream.resolve(), data, arguments.environments.resolve(), ways, **turns)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        _print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
