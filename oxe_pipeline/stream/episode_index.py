"""The episode index of a stream: episodes.parquet as columns, tens of bytes per episode.

What the order of samples needs is read at once, the rest when it is first asked for: a mixture may have thousands of
streams, and each column of each costs as much as a hundred thousand rows.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from oxe_pipeline.stream.format import reading
from schemas.slots import CAMERAS

_INDEX_COLUMNS = ["shard", "first_row", "length", "split", "cameras", "control_hz"]
_ROWS_WORTH_THREADS = 100_000


class EpisodeIndex:
    """episodes.parquet as columns; row i is episode i of the stream.

    `shard` int32, `first_row` int64, `length` int64, `control_hz` float32, `cameras` uint8 bit set: each [E].
    """

    def __init__(self, path: Path | pa.NativeFile, name: str = ""):
        """From the file at a path or open; `name` is what errors call it. Raises StreamError for a damaged one, now or
        when a column is first asked for."""
        self._path, self._name = path, name or str(path)
        table = self._read(_INDEX_COLUMNS)
        column = {name: _one_array(table.column(name)) for name in _INDEX_COLUMNS}
        self.shard = _values(column["shard"])
        self.first_row = _values(column["first_row"])
        self.length = _values(column["length"]).astype(np.int64)
        self.cameras = _values(column["cameras"])
        self.control_hz = _values(column["control_hz"])
        split = column["split"]
        self._split_names = split.dictionary.to_pylist()
        self._split = _values(split.indices)

    def _read(self, columns: list[str]) -> pa.Table:
        # pq.read_table (like Array.to_numpy) would import pandas, and takes three times as long for a small stream.
        # Without pre_buffer it reads in this thread; its own are for disks far away.
        with reading(self._name):
            source = self._path if isinstance(self._path, pa.NativeFile) else pa.memory_map(str(self._path))
            file = pq.ParquetFile(source, pre_buffer=False)
            return file.read(columns, use_threads=file.metadata.num_rows >= _ROWS_WORTH_THREADS)

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
        offsets, ids = self._instructions
        return ids[offsets[episode] : offsets[episode + 1]]

    def instruction_at(self, episode: np.ndarray, share: np.ndarray) -> np.ndarray:
        """int64 [n]: of each episode's instruction ids the one at `share` float64 [n], 0 <= share < 1, of their list.

        -1 where an episode has none.
        """
        offsets, ids = self._instructions
        start = offsets[episode]
        count = offsets[episode + 1] - start
        chosen = np.full(len(start), -1, np.int64)
        some = count > 0
        chosen[some] = ids[start[some] + (share[some] * count[some]).astype(np.int64)]
        return chosen

    def has_camera(self, camera: str) -> np.ndarray:
        """bool [E]."""
        return (self.cameras >> CAMERAS.index(camera)) & 1 == 1

    def column(self, name: str) -> pa.Array:
        """[E] values of any column of format.EPISODE_SCHEMA, read from the file at each call: for filters, reports."""
        return _one_array(self._read([name]).column(name))

    @cached_property
    def success(self) -> np.ndarray:
        """int8 [E]: 1, 0, or -1 for unknown."""
        return _values(self.column("success"))

    @cached_property
    def _instructions(self) -> tuple[np.ndarray, np.ndarray]:
        """(offsets int32 [E + 1], ids int32): those of episode i are ids[offsets[i]:offsets[i + 1]]."""
        lists = self.column("instruction_ids")
        return _values(lists.offsets), _values(lists.values)

    @cached_property
    def _texts(self) -> pa.Table:
        return self._read(["episode_id", "source_path"])

    def episode_id(self, episode: int) -> str:
        return self._texts["episode_id"][episode].as_py()

    def source_path(self, episode: int) -> str:
        return self._texts["source_path"][episode].as_py()


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    column = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _values(array: pa.Array) -> np.ndarray:
    """A view of an array without nulls."""
    return np.from_dlpack(array)
