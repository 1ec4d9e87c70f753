"""How fast RLDS episodes are read: this package's reader against `tfds.as_numpy` with SkipDecoding, in one run.

    python -m benchmarks.reader [--rlds DIR] [--rounds 5] [--json]

Both read the same files to numpy with images left encoded, one core each, turn by turn in fresh processes of the same
kind, after one reading that warms the page cache; the medians of several rounds are compared. Without --rlds it writes
a data set of its own: episodes of 60 steps, two cameras of 256x256 JPEG.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

READERS = {"tfds.as_numpy, SkipDecoding": "tfds", "oxe_pipeline.ingest.rlds": "ours"}
EPISODES, STEPS, SIDE_PX = 40, 60, 256
MIN_SECONDS = 1.0


class ReaderFailed(RuntimeError):
    """A reader's process ended with a fault: which folder, which reader, and its last words, in one line."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader", description=__doc__.split("\n")[0])
    parser.add_argument("--rlds", type=Path, help="a TFDS version folder; default: a data set made for the occasion")
    parser.add_argument("--rounds", type=int, default=5, help="readings of each (default 5); medians are compared")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--read", choices=sorted(READERS.values()), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, is {options.rounds}")
    if options.read:
        print(json.dumps(read_once(options.read, options.rlds)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = compare(options.rlds or write_dataset(Path(folder)), options.rounds)
        except ReaderFailed as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    print(json.dumps(result, indent=1) if options.json else table(result))
    return 0


def compare(path: Path, rounds: int) -> dict:
    """Median steps per second of each reader over `rounds` alternating readings, and the ratio of the medians."""
    rates: dict[str, list[float]] = {name: [] for name in READERS}
    for _ in range(rounds):
        for name, reader in READERS.items():
            rates[name].append(_in_fresh_process(reader, path)["steps_per_s"])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    theirs, ours = (medians[name] for name in READERS)
    return {"rlds": path.name, "rounds": rounds, "steps_per_s": medians, "all": rates, "ratio": ours / theirs}


def _in_fresh_process(reader: str, path: Path) -> dict:
    command = [sys.executable, "-m", "benchmarks.reader", "--read", reader, "--rlds", str(path)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ReaderFailed(f"{path}: the {reader} reader failed: {(done.stderr.splitlines() or ['silently'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def read_once(reader: str, path: Path) -> dict:
    """Reads all of `train` on one core: once to warm up, then for at least MIN_SECONDS, which alone count."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    read = {"tfds": tfds_steps, "ours": our_steps}[reader](path)
    read()
    steps, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < MIN_SECONDS:
        steps += read()
    return {"steps_per_s": steps / seconds, "steps": steps}


def our_steps(path: Path):
    from oxe_pipeline.ingest.rlds import RldsDirectory

    directory = RldsDirectory(path)

    def read() -> int:
        return sum(
            len(next(iter(episode.steps.values())))
            for file in directory.splits["train"].files
            for episode in directory.read_source(file)
        )

    return read


def tfds_steps(path: Path):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(path))
    features = builder.info.features["steps"].feature
    images = [name for name, kind in features["observation"].items() if isinstance(kind, tfds.features.Image)]
    decoders = {"steps": {"observation": {name: tfds.decode.SkipDecoding() for name in images}}}

    def read() -> int:
        data = builder.as_dataset(split="train", decoders=decoders, shuffle_files=False)
        return sum(1 for episode in tfds.as_numpy(data) for _ in episode["steps"])

    return read


def write_dataset(folder: Path) -> Path:
    """A TFDS data set of EPISODES episodes with two cameras; returns its version folder."""
    import simplejpeg
    import tensorflow_datasets as tfds

    features = tfds.features
    image = features.Image(shape=(SIDE_PX, SIDE_PX, 3), encoding_format="jpeg")
    step = {
        "observation": {
            "image_0": image,
            "image_1": image,
            "state": features.Tensor(shape=(7,), dtype=np.float32),
        },
        "action": features.Tensor(shape=(7,), dtype=np.float32),
        "reward": np.float32,
        "discount": np.float32,
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
        "language_instruction": features.Text(),
    }
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, SIDE_PX, dtype=np.uint8)
    noise = rng.integers(0, 16, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    picture = np.stack([*np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90))], -1) + noise
    # TFDS keeps files as they are: the same JPEG again and again costs a reader what different ones would.
    file = folder / "picture.jpg"
    file.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=85))

    class TwoCameras(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {"steps": features.Dataset(step), "episode_metadata": {"file_path": features.Text()}}
                ),
            )

        def _split_generators(self, _):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number in range(EPISODES):
                yield (
                    number,
                    {
                        "steps": [_step(rng, i, str(file)) for i in range(STEPS)],
                        "episode_metadata": {"file_path": f"episode_{number}"},
                    },
                )

    builder = TwoCameras(data_dir=str(folder))
    tfds.disable_progress_bar()
    builder.download_and_prepare()
    return Path(builder.data_dir)


def _step(rng, number: int, image: str) -> dict:
    return {
        "observation": {"image_0": image, "image_1": image, "state": rng.random(7, np.float32)},
        "action": rng.random(7, np.float32),
        "reward": np.float32(number == STEPS - 1),
        "discount": np.float32(1),
        "is_first": number == 0,
        "is_last": number == STEPS - 1,
        "is_terminal": number == STEPS - 1,
        "language_instruction": "put the spoon on the towel",
    }


def table(result: dict) -> str:
    lines = [f"{'reader (one core)':32}{'steps/s':>12}{'ratio':>9}"]
    slowest = min(result["steps_per_s"].values())
    for name, rate in result["steps_per_s"].items():
        lines.append(f"{name:32}{rate:12,.0f}{rate / slowest:8.1f}x")
    return "\n".join([*lines, f"medians of {result['rounds']} alternating readings of {result['rlds']}"])


if __name__ == "__main__":
    sys.exit(main())
