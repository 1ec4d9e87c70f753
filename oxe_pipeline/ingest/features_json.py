"""features.json of a TFDS directory as a flat table of leaves: what is stored under which key, dtype and shape.

TFDS keeps a tree of feature classes; its files keep one flat list of values per leaf ("steps/observation/state"). This
module reduces the first to the second. Feature classes that robot data does not use (audio, for one) are set aside and
named, so that a data set which has one still reads.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.raw_folder import whole_file

MAX_JSON_BYTES = 64 << 20
"""A thousand times what the largest published data set has."""


class RldsError(ValueError):
    """A folder that cannot be read as RLDS: where, what, and the remedy, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """One feature as stored: values lie flat in one list; the sequences around it come first in its shape."""

    key: str
    kind: Literal["number", "text", "image"]
    dtype: np.dtype
    """dtype after reading; `object` for text and images, which stay bytes."""
    shape: tuple[int | None, ...]
    """Of one element, without the sequences; () for text and images."""
    sequences: tuple[int | None, ...] = ()
    """Length of each Dataset or Sequence around the leaf, outermost first; None where it varies."""
    encoding: Literal["none", "bytes", "zlib"] = "none"
    optional: bool = False

    @property
    def is_dynamic(self) -> bool:
        """Several unknown dimensions: TFDS stores the shape of each element beside it ("key/shape", "key/value")."""
        return self.shape.count(None) > 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    leaves: tuple[Leaf, ...]
    skipped: tuple[str, ...] = ()
    """Keys whose feature class is not read, each with the name of its class."""

    def step_leaves(self) -> dict[str, Leaf]:
        """Flat key below steps ("observation/state") to leaf."""
        return {leaf.key.removeprefix("steps/"): leaf for leaf in self.leaves if leaf.key.startswith("steps/")}

    def episode_leaves(self) -> dict[str, Leaf]:
        """Flat key of what is stored once an episode ("episode_metadata/file_path") to leaf."""
        return {leaf.key: leaf for leaf in self.leaves if not leaf.key.startswith("steps/")}


def read_json(path: Path) -> object:
    """What a JSON file of a TFDS directory holds. RldsError where it is no JSON file, leads elsewhere, or is beyond
    MAX_JSON_BYTES."""
    try:
        return json.loads(whole_file(path.parent, path, path.name, most_bytes=MAX_JSON_BYTES))
    except DataError as error:
        raise RldsError(f"{path}: {error.reason}") from None
    except (ValueError, RecursionError) as error:
        raise RldsError(f"{path}: cannot be read as JSON ({error}); copy the file again") from None


def read_features(path: str | Path) -> Features:
    """Features of a features.json. Raises RldsError when it is absent, not JSON, not TFDS's, or has no steps."""
    path = Path(path)
    if not path.is_file():
        raise RldsError(f"{path.parent}: no {path.name}; give the version folder of a TFDS data set, e.g. bridge/1.0.0")
    content = read_json(path)
    node = content.get("content", content) if isinstance(content, dict) else {}
    if isinstance(node, dict) and "featuresDict" not in node and "features" in node:
        node = {"featuresDict": node}
    if not isinstance(node, dict) or "featuresDict" not in node:
        raise RldsError(f"{path}: not in the layout of TFDS 4.4 or newer; write the data set again with a newer TFDS")
    leaves: list[Leaf] = []
    skipped: list[str] = []
    try:
        _collect(node, (), (), leaves, skipped)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RldsError(f"{path}: not as TFDS writes it ({reason}); copy the file again") from None
    features = Features(leaves=tuple(leaves), skipped=tuple(skipped))
    if not any(leaf.sequences for leaf in features.step_leaves().values()):
        raise RldsError(f"{path}: no `steps` data set in it, so it is not RLDS; choose an RLDS data set")
    return features


def _collect(
    node: dict, keys: tuple[str, ...], sequences: tuple[int | None, ...], leaves: list[Leaf], skipped: list[str]
) -> None:
    if "featuresDict" in node or "translation" in node:
        inner = node["featuresDict"] if "featuresDict" in node else node["translation"]
        for name, child in inner.get("features", {}).items():
            _collect(child, (*keys, name), sequences, leaves, skipped)
    elif "sequence" in node or "dataset" in node:
        inner = node["sequence"] if "sequence" in node else node["dataset"]
        length = int(inner.get("length", -1))
        _collect(inner["feature"], keys, (*sequences, None if length < 0 else length), leaves, skipped)
    elif "video" in node:
        frames = _dimensions(node["video"])[0]
        leaves.append(_bytes_leaf("image", keys, (*sequences, frames)))
    elif "image" in node:
        leaves.append(_bytes_leaf("image", keys, sequences))
    elif "text" in node:
        leaves.append(_bytes_leaf("text", keys, sequences))
    elif "classLabel" in node:
        leaves.append(Leaf(key="/".join(keys), kind="number", dtype=np.dtype(np.int64), shape=(), sequences=sequences))
    elif "tensor" in node or "boundingBox" in node:
        leaves.append(_tensor_leaf(node.get("tensor") or node["boundingBox"], keys, sequences))
    else:
        skipped.append(f"{'/'.join(keys)} ({node.get('pythonClassName', 'unknown').rpartition('.')[2]})")


def _bytes_leaf(kind: Literal["text", "image"], keys: tuple[str, ...], sequences: tuple[int | None, ...]) -> Leaf:
    return Leaf(key="/".join(keys), kind=kind, dtype=np.dtype(object), shape=(), sequences=sequences)


def _tensor_leaf(tensor: dict, keys: tuple[str, ...], sequences: tuple[int | None, ...]) -> Leaf:
    name = tensor.get("dtype", "float32")
    is_text = name in ("string", "object")
    # bfloat16 is no numpy type; its values are stored as float32, which holds them all.
    dtype = np.dtype(object) if is_text else np.dtype("float32" if name == "bfloat16" else name)
    if not is_text and dtype.kind not in "biuf":
        raise ValueError(f"{'/'.join(keys)}: {name} is no dtype of numbers")
    return Leaf(
        key="/".join(keys),
        kind="text" if is_text else "number",
        dtype=dtype,
        shape=_dimensions(tensor),
        sequences=sequences,
        encoding=tensor.get("encoding") or "none",
        optional=bool(tensor.get("optional", False)),
    )


def _dimensions(node: dict) -> tuple[int | None, ...]:
    sizes = (int(size) for size in node.get("shape", {}).get("dimensions", []))
    return tuple(None if size < 0 else size for size in sizes)
