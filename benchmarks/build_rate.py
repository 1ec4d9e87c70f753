"""What one process measures of a build: the rate of the real builder, and the bare cost of what no builder can do
without. In a module of its own, because TFDS asks for the module of a builder's class and takes no main script."""

import contextlib
import functools
import importlib
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.raw_folders import RAW_FOLDERS, read_all

ROUNDS = 3


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
