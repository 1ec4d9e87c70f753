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
import contextlib
import functools
import importlib
import io
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.raw_folders import RAW_FOLDERS, STEPS, read_all, source_bytes

PROCESSES = (1, 2)
ROUNDS = 3
SORT_BUFFER_BYTES = 16 << 20


def build(name: str, folder: Path, processes: int, *, sort_buffer_bytes: int | None = None) -> dict:
    """Builds the data set of `folder`/raw once; seconds and episodes of the timed part, peak memory in MB."""
    from tensorflow_datasets.core import shuffle

    if sort_buffer_bytes is not None:
        shuffle.MAX_MEM_BUFFER_SIZE = sort_buffer_bytes
    arrivals: list[float] = []
    shipped = shipped_builder(name)

    class Timed(shipped, skip_registration=True):  # type: ignore[call-arg, misc, valid-type]
        def _generate_examples(self, split, keys) -> Iterator:
            for example in super()._generate_examples(split, keys):
                arrivals.append(time.perf_counter())
                yield example

    with tempfile.TemporaryDirectory(dir=folder) as data_dir:
        prepare(Timed, name, folder, data_dir, processes)
        seconds = time.perf_counter() - arrivals[0]
    return {
        "episodes_per_s": (len(arrivals) - 1) / seconds,
        "main_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3,
    }


def shipped_builder(name: str):
    """The class in builders/ that reads this raw folder."""
    builder = RAW_FOLDERS[name].builder
    return importlib.import_module(f"builders.{builder}.{builder}_dataset_builder").Builder


def prepare(builder_class, name: str, folder: Path, data_dir: str, processes: int, most: int | None = None) -> Path:
    """Builds without a word on stdout; returns the version folder."""
    import tensorflow_datasets as tfds
    from absl import logging

    from builders.unified import UnifiedConfig
    from schemas.spec import load_spec

    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    config = UnifiedConfig(name="measured", spec=load_spec(RAW_FOLDERS[name].spec), processes=processes)
    builder = builder_class(config=config, data_dir=data_dir)
    options = tfds.download.DownloadConfig(manual_dir=folder / "raw", max_examples_per_split=most)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_config=options)
    return Path(builder.data_path)


def bare(name: str, folder: Path, images: list[bytes], episodes: int) -> dict:
    """Episodes/s of the parts that no builder can do without, each the median of ROUNDS."""
    import simplejpeg
    import tensorflow as tf

    records = serialised_episodes(name, folder)
    examples = [tf.train.Example.FromString(record) for record in records]
    with tempfile.TemporaryDirectory(dir=folder) as out:

        def write() -> None:
            with tf.io.TFRecordWriter(f"{out}/records") as writer:
                for record in records:
                    writer.write(record)

        return {
            "read": episodes / median_seconds(functools.partial(read_all, folder / "raw")),
            "decode": 1 / median_seconds(lambda: [simplejpeg.decode_jpeg(image) for image in images]) if images else 0,
            "serialise": len(examples) / median_seconds(lambda: [example.SerializeToString() for example in examples]),
            "write": len(records) / median_seconds(write),
        }


def serialised_episodes(name: str, folder: Path, most: int = 20) -> list[bytes]:
    """The first episodes of the data set as the builder writes them."""
    from oxe_pipeline.ingest.rlds import RldsDirectory

    with tempfile.TemporaryDirectory(dir=folder) as data_dir:
        directory = RldsDirectory(prepare(shipped_builder(name), name, folder, data_dir, 1, most))
        return [record for file in directory.splits["train"].files for record in directory.records(file)]


def median_seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def alone(function: Callable, *arguments, **options):
    """The result of a call in a fresh process, whose memory and imports are its own."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


def measure(name: str, folder: Path, episodes: int, *, memory: bool) -> dict:
    """One row: rates with each number of processes, bare rates, and memory for N and 2N episodes."""
    images = alone(RAW_FOLDERS[name].write, folder / "raw", episodes)
    megabytes = source_bytes(folder / "raw") / 1e6
    row: dict = {"format": name, "episodes": episodes, "mb_per_episode": round(megabytes / episodes, 2)}
    row |= {f"bare_{part}": rate for part, rate in alone(bare, name, folder, images, episodes).items()}
    for processes in PROCESSES:
        runs = [alone(build, name, folder, processes) for _ in range(ROUNDS)]
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
    parser.add_argument("--no-memory", action="store_true", help="leave out the runs with N and 2N episodes")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args(argv)
    rows = []
    for name in options.formats:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, Path(folder), options.episodes, memory=not options.no_memory))
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
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
