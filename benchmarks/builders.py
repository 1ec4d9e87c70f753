"""`python -m benchmarks.builders [--formats bridge ...]`: how fast do builders write unified RLDS, and in what memory?

Each measurement runs in a process of its own, through the real builder (`download_and_prepare`, processes=1 and 2).
Timed is from the first episode that reaches the writer until the files have their final names, so that neither the
start of TensorFlow nor that of the workers counts. Beside it, in the same process and on the same data, on one core:
reading the source's bytes, decoding its JPEGs (where it has them), tf.train.Example serialisation of the same episodes,
and writing the serialised ones as TFRecord. Rates are episodes/s; MB/s are of the source.

`memory` rows: peak resident memory for N and 2N episodes, of the main process and of the largest worker. TFDS sorts up
to 1 GB in memory before it goes to disk; for these rows that buffer is set to 16 MB, so that growth with the number of
episodes would show (`benchmarks.build_memory` has the whole command on gigabytes).
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.build_rate import bare, build
from benchmarks.raw_folders import RAW_FOLDERS, STEPS, source_bytes

PROCESSES = (1, 2)
SORT_BUFFER_BYTES = 16 << 20


def alone(function: Callable, *arguments, **options):
    """The result of a call in a fresh process, whose memory and imports are its own."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def measure(name: str, folder: Path, episodes: int, *, rounds: int, memory: bool) -> dict:
    """One row: rates with each number of processes, bare rates, and memory for N and 2N episodes."""
    images = alone(RAW_FOLDERS[name].write, folder / "raw", episodes)
    megabytes = source_bytes(folder / "raw") / 1e6
    row: dict = {"format": name, "episodes": episodes, "mb_per_episode": round(megabytes / episodes, 2)}
    row |= {f"bare_{part}": rate for part, rate in alone(bare, name, folder, images, episodes).items()}
    for processes in PROCESSES:
        runs = [alone(build, name, folder, processes) for _ in range(rounds)]
        row[f"episodes_per_s_{processes}"] = statistics.median(run["episodes_per_s"] for run in runs)
    row["source_mb_per_s"] = row[f"episodes_per_s_{PROCESSES[-1]}"] * megabytes / episodes
    row["load"] = os.getloadavg()[0]
    if memory:
        alone(RAW_FOLDERS[name].write, folder / "twice" / "raw", 2 * episodes)
        for label, place in (("n", folder), ("2n", folder / "twice")):
            peaks = alone(build, name, place, PROCESSES[-1], sort_buffer_bytes=SORT_BUFFER_BYTES)
            row |= {f"main_mb_{label}": peaks["main_mb"], f"worker_mb_{label}": peaks["worker_mb"]}
    return {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}


def main(argv: list[str] | None = None) -> int:
    """Prints a table of rates with their ratios, and one of memory; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.builders", description=__doc__)
    parser.add_argument("--formats", nargs="+", choices=list(RAW_FOLDERS), default=list(RAW_FOLDERS), metavar="NAME")
    parser.add_argument("--episodes", type=int, default=60, help=f"of {STEPS} steps each")
    parser.add_argument("--rounds", type=int, default=3, help="builds whose median counts")
    parser.add_argument("--no-memory", action="store_true", help="leave out the runs with N and 2N episodes")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each format, as it is done")
    options = parser.parse_args(argv)
    rows = []
    for name in options.formats:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(name, Path(folder), options.episodes, rounds=options.rounds, memory=not options.no_memory)
        rows.append(row)
        if options.json:
            print(json.dumps(row), flush=True)
    if not options.json:
        print_tables(rows)
    return 0


def print_tables(rows: list[dict]) -> None:
    """Rates in episodes/s; ratios of the build with 2 processes to the bare rates."""
    from rich.console import Console
    from rich.table import Table

    rates = Table(title="builds, episodes/s")
    for column in ("format", "1 process", "2", "MB/s", "read", "decode", "serialise", "write"):
        rates.add_column(column, justify="left" if column == "format" else "right")
    for column in ("x decode", "x serialise", "load"):
        rates.add_column(column, justify="right")
    for row in rows:
        build_rate, cells = row["episodes_per_s_2"], [row["format"]]
        cells += [f"{row[key]:,.1f}" for key in ("episodes_per_s_1", "episodes_per_s_2", "source_mb_per_s")]
        cells += [f"{row['bare_' + part]:,.1f}" for part in ("read", "decode", "serialise", "write")]
        cells += [f"{build_rate / row[key]:.2f}" if row[key] else "" for key in ("bare_decode", "bare_serialise")]
        rates.add_row(*cells, f"{row['load']:.1f}")
    Console(width=120).print(rates)
    if "main_mb_n" not in rows[0]:
        return
    memory = Table(title="peak resident MB")
    for column in ("format", "main, N", "main, 2N", "worker, N", "worker, 2N"):
        memory.add_column(column, justify="left" if column == "format" else "right")
    for row in rows:
        keys = ("main_mb_n", "main_mb_2n", "worker_mb_n", "worker_mb_2n")
        memory.add_row(row["format"], *(f"{row[key]:,.0f}" for key in keys))
    Console().print(memory)


if __name__ == "__main__":
    sys.exit(main())
