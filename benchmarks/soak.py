"""`python -m benchmarks.soak [--minutes 60] [--workers N] [--out rows.jsonl]`: does the loader's memory stay flat?

Takes batches from `make_loader` as fast as they come (with --workers: from a plain torch DataLoader over
StreamDataset), out of two data sets of scenes (see `scenes`), uniformly shuffled, and every 10 s notes rate, memory,
open files and threads as a line of JSON. What is judged is the memory that no page cache can give back, RssAnon +
RssShmem, summed over all processes: a straight line is fitted through its means per minute after the first 5 minutes (a
quarter of a shorter run), by least squares. Means per minute, since readings 10 s apart are alike and would make the
line look surer than it is.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from benchmarks.process_memory import memory_mb, open_files, proportional_mb, threads
from benchmarks.scenes import make_scene_stream
from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.schedule import Schedule
from oxe_pipeline.stream.reader import open_stream

BATCH_SIZE, CHUNK, ROW_S, WARM_UP_S, MEAN_S = 64, 4, 10.0, 300.0, 60.0
LEAST_S = 900.0
"""A shorter run is never judged: until every thread has been slow once, memory still rises by whole batches."""
FLAT_MB_PER_H = 10.0
"""Growth that would take four days to reach 1 GB."""
COUNT_NOISE = 8
"""Files or threads more or less: batches on their way between processes are open files."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One reading; memory summed over the process and its workers, MB of 10^6 bytes."""

    seconds: float
    samples_per_s: float
    """Since the row before."""
    rss_mb: float
    anon_mb: float
    file_mb: float
    shmem_mb: float
    pss_mb: float
    """Each shared page divided among the processes that share it."""
    open_files: int
    threads: int
    processes: int

    @property
    def held_mb(self) -> float:
        return self.anon_mb + self.shmem_mb


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run shows."""

    minutes: float
    samples_per_s: float
    """Median of the rows after the warm-up."""
    held_after_warm_up_mb: float
    held_at_end_mb: float
    peak_rss_mb: float
    slope_mb_per_h: float
    standard_error_mb_per_h: float
    open_files_grown: int
    threads_grown: int
    """The most in the second half of the run after the warm-up, less the most in the first half."""
    verdict: Literal["flat", "growing", "undecided"]
    """flat: slope + 2 standard errors is at most FLAT_MB_PER_H, and neither files nor threads grew; growing: slope - 2
    standard errors is above it, or files or threads grew; undecided: the run is too short or too noisy to say."""


def summarise(rows: Sequence[Row]) -> Summary:
    """The summary of rows in the order of time; ValueError for fewer than two after the warm-up."""
    warm_up_s = min(WARM_UP_S, rows[-1].seconds / 4) if rows else 0.0
    kept = [row for row in rows if row.seconds >= warm_up_s]
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} readings after {warm_up_s:.0f} s are too few; let it run for longer")
    slope, error = _line(kept)
    files, grown_threads = _grown([row.open_files for row in kept]), _grown([row.threads for row in kept])
    verdict: Literal["flat", "growing", "undecided"] = "undecided"
    if rows[-1].seconds >= LEAST_S:
        if slope - 2 * error > FLAT_MB_PER_H or max(files, grown_threads) > COUNT_NOISE:
            verdict = "growing"
        elif slope + 2 * error <= FLAT_MB_PER_H:
            verdict = "flat"
    return Summary(
        minutes=rows[-1].seconds / 60,
        samples_per_s=float(np.median([row.samples_per_s for row in kept])),
        held_after_warm_up_mb=kept[0].held_mb,
        held_at_end_mb=kept[-1].held_mb,
        peak_rss_mb=max(row.rss_mb for row in rows),
        slope_mb_per_h=slope,
        standard_error_mb_per_h=error,
        open_files_grown=files,
        threads_grown=grown_threads,
        verdict=verdict,
    )


def _grown(counts: Sequence[int]) -> int:
    middle = len(counts) // 2
    return max(counts[middle:]) - max(counts[:middle])


def _line(rows: Sequence[Row]) -> tuple[float, float]:
    """(slope, its standard error) in MB/h of held_mb over time; the error is infinite for fewer than three minutes."""
    minute = np.array([row.seconds // MEAN_S for row in rows])
    groups = [np.flatnonzero(minute == number).tolist() for number in np.unique(minute)]
    hours = np.array([np.mean([rows[i].seconds for i in group]) for group in groups]) / 3600
    held_mb = np.array([np.mean([rows[i].held_mb for i in group]) for group in groups])
    if len(groups) < 2:
        return 0.0, math.inf
    spread = hours - hours.mean()
    slope = float(spread @ held_mb / (spread @ spread))
    if len(groups) < 3:
        return slope, math.inf
    residual = held_mb - held_mb.mean() - slope * spread
    return slope, float(np.sqrt(residual @ residual / (len(groups) - 2) / (spread @ spread)))


def soak(batches: Iterator[dict], seconds: float, log: TextIO) -> list[Row]:
    """Takes batches for so many seconds; writes each row to `log` as it is taken, and returns them all."""
    rows: list[Row] = []
    started = last = time.monotonic()
    samples = 0
    while last - started < seconds:
        samples += len(next(batches)["g"])
        now = time.monotonic()
        if now - last >= ROW_S or now - started >= seconds:
            rows.append(_row(now - started, samples / (now - last)))
            log.write(json.dumps(asdict(rows[-1])) + "\n")
            log.flush()
            samples, last = 0, time.monotonic()
    return rows


def _row(seconds: float, samples_per_s: float) -> Row:
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
    memory = [memory_mb(pid) for pid in pids]
    return Row(
        seconds=round(seconds, 1),
        samples_per_s=round(samples_per_s, 1),
        rss_mb=sum(one["rss"] for one in memory),
        anon_mb=sum(one["anon"] for one in memory),
        file_mb=sum(one["file"] for one in memory),
        shmem_mb=sum(one["shmem"] for one in memory),
        pss_mb=sum(proportional_mb(pid) for pid in pids),
        open_files=sum(open_files(pid) for pid in pids),
        threads=sum(threads(pid) for pid in pids),
        processes=len(pids),
    )


def measure(folders: Sequence[Path], *, seconds: float, workers: int, log: TextIO) -> Summary:
    """Soaks the loader over equally weighted streams; workers 0 is `make_loader`, which has threads instead."""
    streams = {stream.name: stream for stream in map(open_stream, folders)}
    mixture = Mixture(streams, Schedule.from_weights(dict.fromkeys(streams, 1)), seed=0)
    if not workers:
        with closing(make_loader(mixture, batch_size=BATCH_SIZE, chunk=CHUNK)) as loader:
            return summarise(soak(loader, seconds, log))
    from torch.utils.data import DataLoader

    from oxe_pipeline.loader.dataset import StreamDataset

    dataset = StreamDataset(mixture, batch_size=BATCH_SIZE, chunk=CHUNK)
    return summarise(soak(iter(DataLoader(dataset, batch_size=None, num_workers=workers)), seconds, log))


def main(argv: list[str] | None = None) -> int:
    """Prints the summary; 0 when memory is flat, 1 when it is not or cannot be told, 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--workers", type=int, default=0, help="worker processes of a DataLoader (default: make_loader)"
    )
    parser.add_argument("--image-px", type=int, default=224, help="side of the images made up (default 224)")
    parser.add_argument("--out", type=Path, default=Path("soak.jsonl"), help="file of the rows (default soak.jsonl)")
    arguments = parser.parse_args(argv)
    if arguments.minutes <= 0 or arguments.workers < 0:
        parser.error("--minutes must be above 0, --workers 0 or more")
    try:
        with tempfile.TemporaryDirectory() as folder, open(arguments.out, "w") as log:
            folders = [
                make_scene_stream(Path(folder) / name, name, episodes=64, steps=80, image_px=arguments.image_px, seed=i)
                for i, name in enumerate(("scenes_a", "scenes_b"))
            ]
            summary = measure(folders, seconds=60 * arguments.minutes, workers=arguments.workers, log=log)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in asdict(summary).items():
        print(f"{name.replace('_', ' '):28} {value if isinstance(value, str) else f'{value:,.1f}'}")
    return 0 if summary.verdict == "flat" else 1


if __name__ == "__main__":
    sys.exit(main())
