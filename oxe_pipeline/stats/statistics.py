"""Statistics of one robot vector (action, state, action_raw, state_raw): what the shard job computes and training uses.

Each shard's statistics are a small record; records merge into those of a data set, and those of several data sets merge
into those of a mixture, as if all steps had been seen at once. An envelope of quantiles (least q01, greatest q99), the
usual way out, is wrong and is not offered. Bytes are equal for equal data, equal shards and equal order of merging, so
shards are to be merged in the order of their names. Trades away: exact quantiles above 8192 values a column (see
sketch.py).
"""

import base64
import json
import struct
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from oxe_pipeline.stats.moments import Moments
from oxe_pipeline.stats.sketch import QuantileSketch

STATISTICS_FORMAT = 1

_MAGIC = b"OXESTATS"
_HEADER = struct.Struct("<8sII")


class VectorStatistics:
    """Count, moments and quantiles of every named slot. One object accumulates; nothing else holds its state."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: one per column, unique; ValueError when one is repeated."""
        if len(set(names)) != len(names):
            raise ValueError(f"statistics: slot names must be unique, got {list(names)}")
        self.names = tuple(names)
        self.moments = Moments.empty(len(self.names))
        self.sketches = [QuantileSketch() for _ in self.names]

    def update(self, values: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Adds T steps: `values` float [T, D]; columns where `mask` bool [D] is false are not looked at.

        Raises ValueError, with nothing added, for a wrong shape or for a value that is not finite, naming slot and row.
        """
        values = np.asarray(values, np.float32)
        width = len(self.names)
        if values.ndim != 2 or values.shape[1] != width:
            raise ValueError(f"statistics: values must be [T, {width}], are {list(values.shape)}")
        if mask is None:
            mask = np.ones(width, bool)
        elif mask.shape != (width,):
            raise ValueError(f"statistics: mask must be [{width}], is {list(mask.shape)}")
        values = np.where(mask, values, np.float32(0))
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(f"statistics: {self.names[column]} is {values[row, column]} in row {row}; must be finite")
        self.moments.update(values, mask)
        for column in np.flatnonzero(mask):
            self.sketches[column].update(values[:, column])

    def merge(self, other: "VectorStatistics") -> None:
        """Adds what `other` has seen; `other` stays as it is. Raises ValueError when the slots differ."""
        if other.names != self.names:
            unequal = sorted(set(self.names) ^ set(other.names)) or "the same slots in another order"
            raise ValueError(f"statistics: cannot merge different slots: {unequal}")
        self.moments.merge(other.moments)
        for mine, theirs in zip(self.sketches, other.sketches, strict=True):
            mine.merge(theirs)

    def summary(self) -> dict[str, dict[str, float]]:
        """Slot name to {count, mean, std, min, max, q01, q99} as plain numbers, ready for JSON.

        Slots without a value are left out. std is the population's. q01 and q99 have a rank error of 0.1 % at most.
        """
        std = self.moments.std()
        table: dict[str, dict[str, float]] = {}
        for column in np.flatnonzero(self.moments.count):
            q01, q99 = self.sketches[column].quantiles((0.01, 0.99))
            table[self.names[column]] = {
                "count": int(self.moments.count[column]),
                "mean": float(self.moments.mean[column]),
                "std": float(std[column]),
                "min": float(self.moments.minimum[column]),
                "max": float(self.moments.maximum[column]),
                "q01": q01,
                "q99": q99,
            }
        return table

    def to_bytes(self) -> bytes:
        """The whole state, versioned, little-endian; at most about 44 KB a slot. Inverse: from_bytes."""
        sketches = [sketch.to_bytes() for sketch in self.sketches]
        head = json.dumps({"names": self.names, "sketch_bytes": [len(sketch) for sketch in sketches]}).encode()
        m = self.moments
        columns = [m.count.astype("<i8"), *(a.astype("<f8") for a in (m.mean, m.m2, m.minimum, m.maximum))]
        state = [column.tobytes() for column in columns] + sketches
        return _HEADER.pack(_MAGIC, STATISTICS_FORMAT, len(head)) + head + b"".join(state)

    def __reduce__(self):
        # The sketches of the library do not pickle; process pools and Beam send statistics from worker to worker.
        return VectorStatistics.from_bytes, (self.to_bytes(),)

    @classmethod
    def from_bytes(cls, content: bytes) -> "VectorStatistics":
        """Inverse of to_bytes. Raises ValueError for other content, a newer format, or content cut short."""
        if len(content) < _HEADER.size or content[: len(_MAGIC)] != _MAGIC:
            raise ValueError(f"statistics: {len(content)} bytes that were not written by VectorStatistics.to_bytes")
        _, version, head_bytes = _HEADER.unpack_from(content)
        if version != STATISTICS_FORMAT:
            raise ValueError(f"statistics: format {version}; this version reads format {STATISTICS_FORMAT}")
        start = _HEADER.size + head_bytes
        if len(content) < start:
            raise ValueError(f"statistics: {len(content)} bytes, less than its header of {start}; the file is damaged")
        head = json.loads(content[_HEADER.size : start])
        statistics, width = cls(head["names"]), len(head["names"])
        stops = start + 5 * 8 * width + np.cumsum([0, *head["sketch_bytes"]])
        if stops[-1] != len(content):
            raise ValueError(f"statistics: {len(content)} bytes where the header says {stops[-1]}; the file is damaged")
        columns = [
            np.frombuffer(content, kind, width, start + i * 8 * width) for i, kind in enumerate(("<i8", *["<f8"] * 4))
        ]
        statistics.moments = Moments(*(column.copy() for column in columns))
        statistics.sketches = [QuantileSketch.from_bytes(content[a:b]) for a, b in pairwise(stops)]
        return statistics

    def to_record(self) -> dict[str, object]:
        """The state as a JSON-able record: {"format", "names", "state": base64 of to_bytes}. Inverse: from_record."""
        state = base64.b64encode(self.to_bytes()).decode()
        return {"format": STATISTICS_FORMAT, "names": list(self.names), "state": state}

    @classmethod
    def from_record(cls, record: dict) -> "VectorStatistics":
        """Inverse of to_record; raises ValueError like from_bytes."""
        return cls.from_bytes(base64.b64decode(record["state"]))
