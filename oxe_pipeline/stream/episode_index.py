"""The episode index of a stream: episodes.parquet as columns, tens of bytes per episode, read at once.

Columns only people look at (ids, paths, raw labels) are read when asked for.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.slots import CAMERAS

_INDEX_COLUMNS = ["shard", "first_row", "length", "split", "cameras", "instruction_ids", "success", "control_hz"]


class EpisodeIndex:
    """episodes.parquet as columns; row i is episode i of the stream.

    `shard` int32, `first_row` int64, `length` int64, `success` int8, `control_hz` float32, `cameras` uint8 bit set:
    each [E]. Columns only people look at (ids, paths, raw labels) are read when asked for.
    """

    def __init__(self, path: Path):
        self._path = path
        table = pq.read_table(path, columns=_INDEX_COLUMNS)
        column = {name: table.column(name).combine_chunks() for name in _INDEX_COLUMNS}
        self.shard = column["shard"].to_numpy()
        self.first_row = column["first_row"].to_numpy()
        self.length = column["length"].to_numpy().astype(np.int64)
        self.cameras = column["cameras"].to_numpy()
        self.success = column["success"].to_numpy()
        self.control_hz = column["control_hz"].to_numpy()
        split = _one_array(column["split"])
        self._split_names = split.dictionary.to_pylist()
        self._split = split.indices.to_numpy()
        instruction_ids = _one_array(column["instruction_ids"])
        self._instruction_start = instruction_ids.offsets.to_numpy().astype(np.int64)
        self._instruction_ids = instruction_ids.values.to_numpy()

    def __len__(self) -> int:
        return len(self.length)

    def split_is(self, name: str) -> np.ndarray:
        """bool [E]: which episodes belong to split `name`."""
        if name not in self._split_names:
            return np.zeros(len(self), bool)
        return self._split == self._split_names.index(name)

    def split_names(self) -> list[str]:
        return list(self._split_names)

    def instruction_ids(self, episode: int) -> np.ndarray:
        """int32 [n]: main instruction first, then alternatives; empty where there is none."""
        start, stop = self._instruction_start[episode : episode + 2]
        return self._instruction_ids[start:stop]

    def has_camera(self, camera: str) -> np.ndarray:
        """bool [E]."""
        return (self.cameras >> CAMERAS.index(camera)) & 1 == 1

    @cached_property
    def _texts(self) -> pa.Table:
        return pq.read_table(self._path, columns=["episode_id", "source_path"])

    def episode_id(self, episode: int) -> str:
        return self._texts["episode_id"][episode].as_py()

    def source_path(self, episode: int) -> str:
        return self._texts["source_path"][episode].as_py()


def _one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column
