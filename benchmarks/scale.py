"""`python -m benchmarks.scale`: what a mixture costs by its number of data sets and episodes, without an image byte.

For each case it makes streams of that size (see `sparse_streams`), opens them in two fresh processes, the first with
the index files dropped from the page cache, and prints time, memory and sizes; `--cases 3000x1000000` measures one
case. Modules are imported before the clock starts, torch too. The first batch is made by `make_loader` in full but for
images: shards are opened, states, actions and texts read. Directory entries stay cached, so a cold disk is slower than
"cold" here. Making the 200,000 files of a case of 1 M episodes takes a minute or two, and 1.7 GB of disk.
"""

import argparse
import gc
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from benchmarks.process_memory import memory_mb
from benchmarks.sparse_streams import make_sparse_mixture
from oxe_pipeline.mixture.mixture import Mixture, load_mixture

CASES = "1x1000000 10x1000000 100x1000000 1000x1000000 3000x1000000 100x10000 100x100000"
BATCH_SIZE, CHUNK, LATE_G, TIMED_BATCHES = 256, 4, 10**12, 50


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One process that opened one mixture."""

    datasets: int
    episodes: int
    windows: int
    """Of the train split."""
    open_s: float
    """`load_mixture`."""
    open_cpu_s: float
    """The same on the processor: what it would take at least on a machine that does nothing else."""
    first_indices_s: float
    """From the call of `load_mixture` to the data sets, episodes and steps of the first 256 samples."""
    first_batch_s: float
    """From the call of `load_mixture` to the first batch of `make_loader`, images left out."""
    rss_growth_mb: float
    anon_growth_mb: float
    """By opening; `anon` is what is not page cache."""
    anon_bytes_per_episode: float
    peak_rss_mb: float
    """Of the process, torch and all libraries included."""
    indices_ms: float
    """Per batch of 256 from g = 0; median."""
    late_indices_ms: float
    """The same from g = 10^12."""
    state_kb: float
    """Of the loader's state as JSON."""
    pickle_kb: float
    unpickle_s: float
    """What a spawned worker spends before it can start: it opens the streams again."""


def measure(mixture_file: Path) -> Reading:
    """Opens the mixture in this process, which should be a fresh one, and takes all readings."""
    import torch  # noqa: F401

    from oxe_pipeline.loader.loader import make_loader

    before = memory_mb()
    started, started_cpu = time.perf_counter(), time.process_time()
    mixture = load_mixture(mixture_file)
    opened, opened_cpu = time.perf_counter(), time.process_time()
    after = memory_mb()
    mixture.locate(np.arange(BATCH_SIZE))
    first_indices = time.perf_counter()
    with make_loader(mixture, batch_size=BATCH_SIZE, chunk=CHUNK, cameras=(), threads=1, prefetch=1) as loader:
        next(loader)
        first_batch = time.perf_counter()
        state = json.dumps(loader.state_dict())
    peak_mb = memory_mb()["peak"]
    pickled = pickle.dumps(mixture)
    indices_ms, late_indices_ms = (_indices_ms(mixture, start) for start in (0, LATE_G))
    episodes = sum(len(dataset.stream.episodes) for dataset in mixture.datasets)
    windows = sum(dataset.num_steps for dataset in mixture.datasets)
    datasets = len(mixture.datasets)
    del mixture, loader
    gc.collect()
    unpickling = time.perf_counter()
    pickle.loads(pickled)
    return Reading(
        datasets=datasets,
        episodes=episodes,
        windows=windows,
        open_s=opened - started,
        open_cpu_s=opened_cpu - started_cpu,
        first_indices_s=first_indices - started,
        first_batch_s=first_batch - started,
        rss_growth_mb=after["rss"] - before["rss"],
        anon_growth_mb=after["anon"] - before["anon"],
        anon_bytes_per_episode=(after["anon"] - before["anon"]) * 1e6 / episodes,
        peak_rss_mb=peak_mb,
        indices_ms=indices_ms,
        late_indices_ms=late_indices_ms,
        state_kb=len(state) / 1000,
        pickle_kb=len(pickled) / 1000,
        unpickle_s=time.perf_counter() - unpickling,
    )


def _indices_ms(mixture: Mixture, start: int) -> float:
    times = []
    for batch in range(TIMED_BATCHES):
        numbers = start + batch * BATCH_SIZE + np.arange(BATCH_SIZE)
        began = time.perf_counter()
        mixture.locate(numbers)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def measure_case(folder: Path, datasets: int, episodes: int) -> list[dict]:
    """A row of Reading's fields for a cold and for a warm page cache, in that order; removes what it made."""
    try:
        mixture_file = make_sparse_mixture(folder, datasets=datasets, episodes=episodes)
        _drop_index_files(folder)
        command = [sys.executable, "-m", "benchmarks.scale", "--measure", str(mixture_file)]
        rows = []
        for cache in ("cold", "warm"):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"measuring {mixture_file} failed: {done.stderr[-2000:]}")
            rows.append({"cache": cache, **json.loads(done.stdout)})
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _drop_index_files(folder: Path) -> None:
    """Asks the kernel to forget manifests and tables; they were synced when written, so it can."""
    for path in (path for pattern in ("*/*.json", "*/*.parquet", "*/*/*.bin") for path in folder.glob(pattern)):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def _print_table(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"opening a mixture; batches of {BATCH_SIZE}")
    table.add_column("cache")
    for field in fields(Reading):
        table.add_column(field.name.replace("_", " "), justify="right")
    for row in rows:
        values = (row[field.name] for field in fields(Reading))
        table.add_row(row["cache"], *(f"{v:,.2f}" if isinstance(v, float) and v < 100 else f"{v:,.0f}" for v in values))
    Console(width=220).print(table)


def main(argv: list[str] | None = None) -> int:
    """Prints the table; 0, or 2 for a case that cannot be read or measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", default=CASES.split(), metavar="DATASETSxEPISODES")
    parser.add_argument("--folder", type=Path, help="where to make the streams (default: the temporary folder)")
    parser.add_argument("--measure", type=Path, metavar="MIX.YAML", help="open this mixture once, here, print JSON")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args(argv)
    if arguments.measure:
        print(json.dumps(asdict(measure(arguments.measure))))
        return 0
    rows = []
    try:
        for case in arguments.cases:
            datasets, x, episodes = case.partition("x")
            if not (x and datasets.isdecimal() and episodes.isdecimal()):
                raise ValueError(f"case {case!r} does not parse; write it as 100x1000000")
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                rows += measure_case(Path(folder) / "streams", int(datasets), int(episodes))
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(rows, indent=1)) if arguments.json else _print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
