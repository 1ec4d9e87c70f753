"""The published feature structure of a data set, and episodes of exactly that structure.

A structure is a YAML file in published_structures/: `source` (where it was read), then `steps` and, where there is any,
`episode`, each a mapping from flat key to one line: "image [480, 640, 3]", for depth "image_uint16 [256, 256, 1]" or
"image_float32 ...", "text", or dtype and shape, "float32 [7]". What TFDS says about encoding comes last: "float32 [7]
zlib", "image [240, 320, 3] png"; no word where the source does not tell. "sequence text": any number of them a step;
"sequence sequence text": any number of such lists.
Values are random; what must be valid to mean anything (quaternions, gripper commands) is filled in by the test's table.
"""

import io
import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import simplejpeg
import yaml

from oxe_pipeline.episode import SourceEpisode

FOLDER = Path(__file__).parent / "published_structures"
STEPS = 8
SENTENCE = "pick up the red cup"
_LINE = re.compile(r"^(?P<sequences>(sequence )*)(?P<kind>\w+)( \[(?P<shape>[\d, ]*)\])?( (?P<encoding>\w+))?$")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One leaf: kind "image", "image_uint16", "image_float32", "text" or a dtype's name; shape of one value; "png",
    "jpeg", "zlib" or ""."""

    kind: str
    shape: tuple[int, ...]
    encoding: str = ""
    sequences: int = 0
    """How many sequences are around the value, besides that of the steps."""

    @property
    def is_image(self) -> bool:
        return self.kind.startswith("image")


@dataclass(frozen=True, kw_only=True)
class Structure:
    source: str
    steps: dict[str, Feature]
    episode: dict[str, Feature]


@cache
def read_structure(name: str) -> Structure:
    """The structure in published_structures/`name`.yaml."""
    content = _read_content(name)
    levels = {
        level: {key: _feature(line) for key, line in content.get(level, {}).items()} for level in ("steps", "episode")
    }
    return Structure(source=content["source"], **levels)


def _read_content(name: str) -> dict:
    """`like: other` takes what the file does not say from other.yaml, step key by step key."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    if "like" not in content:
        return content
    like = _read_content(content["like"])
    return like | content | {"steps": like["steps"] | content.get("steps", {})}


def _feature(line: str) -> Feature:
    match = _LINE.match(line)
    assert match, f"{line!r} is not 'kind [shape] encoding'"
    shape = tuple(int(side) for side in (match["shape"] or "").split(",") if side.strip())
    sequences = match["sequences"].count("sequence")
    return Feature(kind=match["kind"], shape=shape, encoding=match["encoding"] or "", sequences=sequences)


def make_episode(name: str, filled: dict | None = None, *, seed: int = 0, steps: int = STEPS) -> SourceEpisode:
    """An episode of the structure, as a reader gives it. `filled` maps a key to an array that replaces the random
    values (its dtype is made the published one) or, for text and images, to the list or the single value."""
    structure, rng, filled = read_structure(name), np.random.default_rng(seed), filled or {}
    unknown = set(filled) - set(structure.steps) - set(structure.episode)
    assert not unknown, f"{name} publishes no {sorted(unknown)}"
    columns: dict = {}
    for key, feature in structure.steps.items():
        if key in filled and (feature.kind == "text" or feature.is_image):
            columns[key] = list(filled[key])
        elif key in filled:
            columns[key] = _as_stored(np.asarray(filled[key]), feature.kind)
            assert columns[key].shape == (steps, *feature.shape), f"{key}: {columns[key].shape}"
        else:
            columns[key] = _column(rng, key, feature, steps)
    metadata = {key: filled.get(key, _column(rng, key, feature, 1)[0]) for key, feature in structure.episode.items()}
    return SourceEpisode(key=f"{name}#0", source_path=f"{name}#0", steps=columns, metadata=metadata, split="train")


def _column(rng, key: str, feature: Feature, steps: int) -> np.ndarray | list:
    if feature.sequences:
        inside = replace(feature, sequences=feature.sequences - 1)
        return [_column(rng, key, inside, length) for length in rng.integers(1, 4, steps)]
    if feature.kind == "text":
        return [SENTENCE.encode()] * steps
    if feature.is_image:
        return [_image(rng, feature) for _ in range(steps)]
    flag = key.rpartition("/")[2]
    if flag in ("is_first", "is_last", "is_terminal"):
        return np.arange(steps) == (0 if flag == "is_first" else steps - 1)
    if feature.kind == "bool":
        return rng.random((steps, *feature.shape)) < 0.5
    if np.prod(feature.shape) > 512 or "embedding" in key:
        return np.zeros((steps, *feature.shape), feature.kind)  # depth maps and the like, which no spec reads
    if np.dtype(feature.kind).kind in "iu":
        return rng.integers(0, 2, (steps, *feature.shape)).astype(feature.kind)
    return _as_stored(rng.normal(0, 0.3, (steps, *feature.shape)), feature.kind)


def _as_stored(values: np.ndarray, kind: str) -> np.ndarray:
    """tf.train.Example holds 32-bit floats only, so a published float64 is one rounded to float32."""
    return (values.astype(np.float32) if kind == "float64" else values).astype(kind)


def _image(rng, feature: Feature) -> bytes:
    """A small image, whatever the published size: nothing here depends on it, and encoding stays cheap."""
    height, width, channels = 8, 8, feature.shape[-1]
    pixels = np.full((height, width, 3), rng.integers(20, 200, 3), np.uint8)
    if channels == 3 and feature.encoding != "png":
        return simplejpeg.encode_jpeg(pixels, quality=90)
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()


def write_directory(folder: Path, name: str, episode: SourceEpisode, *, version: str = "0.1.0") -> Path:
    """The episode as a TFDS directory of one record with the published features; TFDS itself encodes it.

    Written below `folder`/`name`/`version`, which is returned. No DatasetBuilder is made: that takes a second each.
    """
    features = tfds_features(name)
    path = folder / name / version
    path.mkdir(parents=True)
    features.save_config(str(path))
    record = _serializer(name).serialize_example(features.encode_example(tfds_example(name, episode)))
    file = path / f"{name}-{episode.split}.tfrecord-00000-of-00001"
    _write_record(file, record)
    split = {"name": episode.split, "shardLengths": ["1"], "numBytes": str(len(record))}
    info = {"name": name, "version": version, "fileFormat": "tfrecord", "splits": [split]}
    (path / "dataset_info.json").write_text(json.dumps(info))
    return path


@cache
def tfds_features(name: str):
    """The structure as a TFDS FeaturesDict, with every image at its published size."""
    import tensorflow_datasets as tfds

    structure = read_structure(name)
    steps = _nested({key: _connector(feature) for key, feature in structure.steps.items()})
    episode = _nested({key: _connector(feature) for key, feature in structure.episode.items()})
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(steps), **episode})


@cache
def _serializer(name: str):
    from tensorflow_datasets.core import example_serializer

    return example_serializer.ExampleSerializer(tfds_features(name).get_serialized_info())


def _connector(feature: Feature):
    import tensorflow_datasets as tfds

    if feature.sequences:
        return tfds.features.Sequence(_connector(replace(feature, sequences=feature.sequences - 1)))
    if feature.kind == "text":
        return tfds.features.Text()
    if feature.is_image:
        dtype = np.dtype(feature.kind.partition("_")[2] or "uint8")
        return tfds.features.Image(shape=feature.shape, dtype=dtype, encoding_format=feature.encoding or None)
    return tfds.features.Tensor(shape=feature.shape, dtype=np.dtype(feature.kind), encoding=feature.encoding or "none")


def _nested(flat: dict) -> dict:
    """Flat keys to nested mappings. A group of observations or actions keeps slashes inside its names, as bc_z and
    kuka publish them."""
    nested: dict = {}
    for key, value in flat.items():
        group, slash, rest = key.partition("/")
        if slash:
            nested.setdefault(group, {})[rest] = value
        else:
            nested[key] = value
    return nested


def tfds_example(name: str, episode: SourceEpisode) -> dict:
    """The episode as TFDS takes it: encoded images as file objects. Depth as float32 TFDS encodes itself only; no spec
    reads it, so it is zeros."""
    structure = read_structure(name)

    columns: dict = episode.steps

    def wrapped(feature: Feature, value):
        if feature.kind == "image_float32":
            return np.zeros(feature.shape, np.float32)
        return io.BytesIO(value) if feature.is_image else value

    steps = [
        _nested({key: wrapped(structure.steps[key], column[step]) for key, column in columns.items()})
        for step in range(len(next(iter(columns.values()))))
    ]
    return {"steps": steps, **_nested(episode.metadata)}


def _write_record(file: Path, record: bytes) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(record)
