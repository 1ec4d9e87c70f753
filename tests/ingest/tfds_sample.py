"""Writes small TFDS data sets with TFDS's own writer: input for the reader's tests and for the shard job's."""

import io
from pathlib import Path

import numpy as np


def every_feature():
    """A FeaturesDict with every kind of feature that robot data sets use."""
    import tensorflow_datasets as tfds

    f = tfds.features
    step = {
        "action": f.Tensor(shape=(7,), dtype=np.float64),
        "observation": f.FeaturesDict(
            {
                "image": f.Image(shape=(None, None, 3)),
                "image_png": f.Image(shape=(4, 5, 3), encoding_format="png"),
                "depth": f.Image(shape=(4, 5, 1), dtype=np.uint16, encoding_format="png"),
                "state": f.Tensor(shape=(3, 2), dtype=np.float32),
                "tactile_zlib": f.Tensor(shape=(2, 3), dtype=np.float32, encoding="zlib"),
                "tactile_bytes": f.Tensor(shape=(4,), dtype=np.uint8, encoding="bytes"),
                "flag_zlib": f.Tensor(shape=(3,), dtype=np.bool_, encoding="zlib"),
                "pixels": f.Tensor(shape=(5,), dtype=np.uint8),
                "codes": f.Tensor(shape=(6,), dtype=np.int32),
                "bools": f.Tensor(shape=(3,), dtype=np.bool_),
                "ticks": np.uint64,
                "negative": f.Scalar(np.int64),
                "names": f.Tensor(shape=(2,), dtype=np.str_),
                "box": f.BBoxFeature(),
                "points": f.Sequence({"id": np.int32, "word": f.Text()}),
            }
        ),
        "label": f.ClassLabel(num_classes=3),
        "is_first": np.bool_,
        "reward": np.float32,
        "language_instruction": f.Text(),
    }
    return f.FeaturesDict(
        {
            "steps": f.Dataset(step),
            "episode_metadata": f.FeaturesDict(
                {
                    "file_path": f.Text(),
                    "number": f.Scalar(np.int32),
                    "success": f.Scalar(np.bool_),
                    "alternatives": f.Sequence(f.Text()),
                    "times": f.Sequence(np.float64),
                    "corners": f.Sequence(np.float32, length=3),
                    "nested": f.Sequence(f.Sequence(np.int64)),
                    "preview": f.Image(shape=(4, 5, 3), encoding_format="jpeg"),
                }
            ),
        }
    )


def make_examples(*, episodes: int, seed: int = 0) -> list[dict]:
    """Episodes that fit `every_feature`, of 1 to 4 steps, with empty sequences and numbers of every size."""
    rng = np.random.default_rng(seed)
    return [_episode(rng, number) for number in range(episodes)]


def _episode(rng, number: int) -> dict:
    steps = [_step(rng, step) for step in range(1 + number % 4)]
    return {
        "steps": steps,
        "episode_metadata": {
            "file_path": f"/raw/épisode_{number}",
            "number": -number,
            "success": bool(number % 2),
            "alternatives": [f"word {i}" for i in range(number % 3)],
            "times": rng.normal(size=number % 3).astype(np.float64),
            "corners": rng.normal(size=3).astype(np.float32),
            "nested": [list(range(i)) for i in range(number % 4)],
            "preview": rng.integers(0, 255, (4, 5, 3), dtype=np.uint8),
        },
    }


def _step(rng, step: int) -> dict:
    return {
        "action": rng.normal(size=7),
        "observation": {
            "image": jpeg(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)),
            "image_png": rng.integers(0, 255, (4, 5, 3), dtype=np.uint8),
            "depth": rng.integers(0, 65535, (4, 5, 1), dtype=np.uint16),
            "state": rng.normal(size=(3, 2)).astype(np.float32),
            "tactile_zlib": rng.normal(size=(2, 3)).astype(np.float32),
            "tactile_bytes": rng.integers(0, 255, 4, dtype=np.uint8),
            "flag_zlib": rng.random(3) > 0.5,
            "pixels": rng.integers(0, 255, 5, dtype=np.uint8),
            "codes": rng.integers(-(2**31), 2**31, 6).astype(np.int32),
            "bools": rng.random(3) > 0.5,
            "ticks": np.uint64(2**64 - 1 - step),
            "negative": np.int64(-(2**63)) + step,
            "names": ["left", "right" * step],
            "box": _box(),
            "points": {"id": np.arange(step, dtype=np.int32), "word": [f"w{i}" for i in range(step)]},
        },
        "label": step % 3,
        "is_first": step == 0,
        "reward": np.float32(step) / 3,
        "language_instruction": "push the blöck",
    }


def _box():
    import tensorflow_datasets as tfds

    return tfds.features.BBox(ymin=0.1, xmin=0.2, ymax=0.7, xmax=0.9)


def jpeg(pixels: np.ndarray, quality: int = 90) -> io.BytesIO:
    """JPEG bytes in a file object, the form in which TFDS takes encoded images."""
    import simplejpeg

    return io.BytesIO(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality))


def write_tfds(
    folder: Path, features, examples: dict[str, list[dict]], *, name="sample", file_format="tfrecord", shards=1
) -> Path:
    """Writes split name -> examples with a TFDS builder of its own below `folder`; returns the version folder."""
    import tensorflow_datasets as tfds

    dataset_name = name

    class Sample(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        VERSION = tfds.core.Version("1.0.0")
        name = dataset_name

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, _):
            return {split: enumerate(of_split) for split, of_split in examples.items()}

        def _generate_examples(self):
            raise NotImplementedError("the splits above are the generators")

    builder = Sample(data_dir=str(folder), file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=shards))
    return Path(builder.data_dir)


def write_unified(folder: Path, episodes, *, name="synthetic", shards=1) -> Path:
    """Writes Episodes as a unified RLDS data set with one TFDS split, `train`; returns the version folder."""
    from builders.examples import episode_to_example
    from schemas.rlds import unified_features

    examples = {"train": [episode_to_example(episode) for episode in episodes]}
    return write_tfds(folder, unified_features(), examples, name=name, shards=shards)
