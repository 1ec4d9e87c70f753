"""Parquet tables of a LeRobot folder: the rows of one episode, a few columns, a few rows in memory at a time.

A file of v3.0 holds hundreds of episodes; only the pages around the episode's own rows are read. Everything that a
damaged file can do to the Parquet reader becomes a DataError that names file and column.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.raw_folder import inside

EPISODE_INDEX = "episode_index"
MAX_ROWS = 20_000_000
"""Of one file: 180 hours at 30 Hz."""
MAX_VALUES = 1 << 26
"""Numbers of one column of one row group, as the file's footer declares them: a quarter of a gigabyte of float32."""

MAX_TEXT_BYTES = 1 << 20
"""Of one text: a few bytes of a file can name one long text in every row."""
MAX_TEXTS_BYTES = 1 << 28
"""Of one column of texts of one row group, as the file's footer declares them."""

_BUFFER_BYTES = 1 << 20
_BATCH_ROWS = 64
"""Small enough that a batch of PNG images stays at some ten MB. (A page is inflated whole; writers put up to 1024 rows
into one.)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Rows [first, end) of one file."""

    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


def read_table(root: Path, name: str, columns: Collection[str] | None) -> dict[str, list]:
    """A small table whole, as Python lists: those of `columns` that it has, None for all."""
    with _opened(root, name) as file:
        present = file.schema_arrow.names
        chosen = present if columns is None else [key for key in columns if key in present]
        _check_size(file, chosen, name)
        return file.read(columns=chosen, use_threads=False).select(chosen).to_pydict()


def episode_rows(root: Path, name: str, episode: int) -> Rows:
    """The rows of one episode in a file of many: those whose episode_index says so.

    Raises DataError when there are none, or other rows between them.
    """
    rows = np.flatnonzero(_whole_numbers(root, name, EPISODE_INDEX) == episode)
    if not len(rows):
        raise DataError(f"{name} holds no row of it, though meta/ says so", episode=str(episode), field=EPISODE_INDEX)
    first, end = int(rows[0]), int(rows[-1]) + 1
    if end - first != len(rows):
        reason = f"{name}: rows of other episodes stand between its rows"
        raise DataError(reason, episode=str(episode), field=EPISODE_INDEX)
    return Rows(first=first, end=end)


def all_rows(root: Path, name: str) -> Rows:
    """Every row of a file that is one episode."""
    with _opened(root, name) as file:
        _check_size(file, [], name)
        return Rows(first=0, end=file.metadata.num_rows)


def read_columns(root: Path, name: str, rows: Rows, columns: Collection[str]) -> dict[str, np.ndarray | list]:
    """The rows of those of `columns` that the file has and that hold numbers, text or images.

    Numbers: array [T, ...] of the stored dtype. Text: list of T str. Images: list of T encoded images, bytes; where the
    table names a file instead, that file's bytes. Columns of any other kind (lists of records) are left out.
    Raises DataError naming the column for an empty value, rows of different widths, a path out of the folder.
    """
    with _opened(root, name) as file:
        chosen = [key for key in columns if key in file.schema_arrow.names]
        _check_size(file, chosen, name)
        texts = [key for key in chosen if _is_text(file.schema_arrow.field(key).type)]
    with _opened(root, name, as_dictionary=texts) as file:
        pieces: dict[str, list] = {key: [] for key in chosen}
        for batch in _batches(file, rows, chosen):
            for key in chosen:
                piece = _values(batch.column(key), root, name, key)
                if piece is not None:
                    pieces[key].append(piece)
    try:
        return {key: _joined(parts) for key, parts in pieces.items() if parts}
    except ValueError as error:
        raise DataError(f"rows of different widths: {error}", episode=name, field="columns") from None


def _batches(file, rows: Rows, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Record batches that hold exactly `rows`; row groups outside of them are not touched."""
    groups, starts, start = [], [], 0
    for group in range(file.metadata.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if start < rows.end and end > rows.first:
            groups.append(group)
            starts.append(start)
        start = end
    if not groups:
        return
    position = starts[0]
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
        first, end = max(rows.first - position, 0), min(rows.end - position, batch.num_rows)
        position += batch.num_rows
        if first < end:
            yield batch.slice(first, end - first)
        if position >= rows.end:
            return


def _values(column: pa.Array, root: Path, file: str, key: str) -> np.ndarray | list | None:
    if column.null_count:
        raise DataError(f"{file}: a row has no value", episode=file, field=key)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    if pa.types.is_dictionary(kind):
        if _is_text(kind.value_type) and (pc.max(pc.binary_length(column.dictionary)).as_py() or 0) > MAX_TEXT_BYTES:
            raise DataError(f"{file}: a text of more than {MAX_TEXT_BYTES} bytes", episode=file, field=key)
        column = column.dictionary_decode()
        kind = column.type
    if _is_text(kind):
        return column.to_pylist()
    if pa.types.is_struct(kind) and {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}:
        return [_image(entry, root, file, key) for entry in column.to_pylist()]
    return _numbers(column, file, key)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _numbers(column: pa.Array, file: str, key: str) -> np.ndarray | None:
    """[rows, ...] of a column of numbers or of lists (of lists) of equal lengths; None for anything else."""
    shape = [len(column)]
    while (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        widths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(widths) != 1 or widths[0] is None:
            raise DataError(f"{file}: rows of different widths {widths[:4]}", episode=file, field=key)
        shape.append(widths[0])
        column = column.flatten()
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    if column.null_count:
        raise DataError(f"{file}: a row has an empty number", episode=file, field=key)
    return column.to_numpy(zero_copy_only=False).reshape(shape)


def _image(entry: dict, root: Path, file: str, key: str) -> bytes:
    if isinstance(entry["bytes"], bytes):
        return entry["bytes"]
    if not isinstance(entry["path"], str):
        raise DataError(f"{file}: an image has neither bytes nor a path", episode=file, field=key)
    try:
        return inside(root, root / entry["path"], file).read_bytes()
    except OSError:
        raise DataError(f"no such image file: {entry['path']}", episode=file, field=key) from None


def _joined(parts: list) -> np.ndarray | list:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


def _whole_numbers(root: Path, name: str, key: str) -> np.ndarray:
    with _opened(root, name) as file:
        _check_size(file, [key], name)
        if key not in file.schema_arrow.names:
            raise DataError(f"{name} has no such column", episode=name, field=key)
        values = file.read(columns=[key], use_threads=False).column(key).to_numpy()
    if values.dtype.kind not in "iu":
        raise DataError(f"{name}: must hold whole numbers, holds {values.dtype}", episode=name, field=key)
    return values


def _check_size(file, columns: Collection[str], name: str) -> None:
    metadata = file.metadata
    if metadata.num_rows > MAX_ROWS:
        raise DataError(f"{metadata.num_rows} rows; at most {MAX_ROWS} are read", episode=name, field="rows")
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            if column.path_in_schema.split(".list.")[0] not in columns:
                continue
            if column.num_values > MAX_VALUES:
                reason = f"{column.num_values} values in one row group; at most {MAX_VALUES} are read"
                raise DataError(reason, episode=name, field=column.path_in_schema)
            if column.physical_type == "BYTE_ARRAY" and column.total_uncompressed_size > MAX_TEXTS_BYTES:
                reason = f"{column.total_uncompressed_size} bytes of text; at most {MAX_TEXTS_BYTES} are read"
                raise DataError(reason, episode=name, field=column.path_in_schema)


@contextmanager
def _opened(root: Path, name: str, as_dictionary: Collection[str] = ()):
    """The file; texts of the columns `as_dictionary` come once each, with a number a row."""
    path = inside(root, root / name, name)
    if not path.is_file():
        raise DataError(f"no such file: {name}", episode=name, field="file")
    try:
        # Without a buffer size a whole column of a row group is read at once, which for images is the whole file.
        with pq.ParquetFile(
            path, buffer_size=_BUFFER_BYTES, pre_buffer=False, read_dictionary=list(as_dictionary)
        ) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        reason = f"{name}: not a whole Parquet file, copy it again: {' '.join(str(error).split())[:200]}"
        raise DataError(reason, episode=name, field="file") from None
