"""HDF5 files of strangers, read with care: nothing that a file links to elsewhere is followed, nothing beyond
`hdf5_limits` is read, and damage is a DataError that names file and place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.hdf5_heap import check_heaps
from oxe_pipeline.ingest.hdf5_limits import MAX_ATTRIBUTE_BYTES, MAX_DEPTH, MAX_MEMBERS, check_array
from oxe_pipeline.ingest.raw_folder import inside

SUFFIXES = (".hdf5", ".h5")


def files_below(root: str | Path) -> list[str]:
    """Paths below `root` of all files that are HDF5 by their names, in no order that means anything."""
    root = Path(root)
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in SUFFIXES]


def keys_in_files(root: str | Path, names_of: Callable[[str], Sequence[str]]) -> Iterator[str]:
    """Keys "folder/file.h5/name" of the episodes that `names_of(file)` finds, files by path, one open at a time. A file
    for which it raises DataError gives its own path as the one key: reading that key is to raise the same."""
    for file in sorted(files_below(root)):
        try:
            names = names_of(file)
        except DataError:
            names = []
        yield from [f"{file}/{name}" for name in names] or [file]


@contextmanager
def opened(root: str | Path, file: str):
    """The h5py.File `file` below `root`, for reading. Raises DataError naming the file when it is truncated, not HDF5,
    absent, outside `root` by a link, or found damaged while it is open; ImportError with the remedy without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading HDF5 needs h5py: pip install 'oxe-pipeline[build]'") from error
    path = inside(Path(root), Path(root) / file, file)
    try:
        check_heaps(path)
        content = h5py.File(path, "r")
    except FileNotFoundError:
        raise DataError("no such file", episode=file, field="file") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"not a whole HDF5 file, copy it again: {_line(error)}", episode=file, field="file") from None
    with content, reading(file, "file"):
        yield content


@contextmanager
def reading(episode: str, field: str):
    """Whatever h5py raises inside on a damaged file (it has no class for that) as a DataError that names the place."""
    try:
        yield
    except DataError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise DataError(f"cannot be read, copy the file again: {_line(error)}", episode=episode, field=field) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def own_member(group, name: str, episode: str, field: str):
    """group[name], refused with DataError where HDF5 would fetch it from elsewhere: a path out of the raw folder could
    hide there."""
    import h5py

    with reading(episode, field):
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            member = group[name]
            if isinstance(member, h5py.Group) or (
                isinstance(member, h5py.Dataset) and not (member.external or member.is_virtual)
            ):
                return member
    reason = "is a link to another file or place; an episode must hold its own data"
    raise DataError(reason, episode=episode, field=field)


def holds(parent, path: str, episode: str) -> bool:
    """Whether something lies at `path` ("a/b") below `parent`. HDF5's own answer would follow links on the way there;
    DataError for those.
    """
    import h5py

    *above, last = path.strip("/").split("/")
    for name in above:
        if not isinstance(parent, h5py.Group) or name not in parent:
            return False
        parent = own_member(parent, name, episode, path)
    return isinstance(parent, h5py.Group) and last in parent


def own_group(parent, path: str, episode: str):
    """The group at `path` ("a/b") below `parent`; DataError when it is absent, an array or a link."""
    import h5py

    group = _walk(parent, path, episode, "group")
    if not isinstance(group, h5py.Group):
        raise DataError("is an array, must be a group", episode=episode, field=path)
    return group


def own_array(parent, path: str, episode: str):
    """The array at `path` ("a/b") below `parent`, not read yet; DataError when it is absent, a group or a link."""
    import h5py

    array = _walk(parent, path, episode, "array")
    if not isinstance(array, h5py.Dataset):
        raise DataError("is a group, must be an array", episode=episode, field=path)
    return array


def _walk(parent, path: str, episode: str, what: str):
    import h5py

    member = parent
    for name in path.strip("/").split("/"):
        if not isinstance(member, h5py.Group) or name not in member:
            raise DataError(f"no such {what} in the file: {path}", episode=episode, field=path)
        member = own_member(member, name, episode, path)
    return member


def read_whole(array, episode: str, field: str) -> np.ndarray:
    """All values of an array. Raises DataError when it passes the limits or is damaged."""
    with reading(episode, field):
        check_array(array, episode, field, whole=True)
        return np.asarray(array[()])


def arrays(group, episode: str, prefix: str, *, skip: frozenset[str] = frozenset()) -> Iterator[tuple[str, Any]]:
    """(flat key "prefix/a/b", h5py array [T, ...]) of every array below the group, in the file's order, none read.

    Scalars and records with named fields are left out, and the group's own members named in `skip` with all below.
    """
    yield from _arrays(group, episode, prefix, skip, depth=0, left=[MAX_MEMBERS])


def _arrays(group, episode: str, prefix: str, skip: frozenset[str], *, depth: int, left: list[int]):
    import h5py

    if depth > MAX_DEPTH:
        raise DataError(f"groups lie more than {MAX_DEPTH} deep", episode=episode, field=prefix)
    with reading(episode, prefix):
        names = list(group) if len(group) <= left[0] else None
    if names is None:
        raise DataError(f"holds more than {MAX_MEMBERS} members", episode=episode, field=prefix)
    left[0] -= len(names)
    for name in names:
        key = f"{prefix}/{name}" if prefix else name
        if name in skip:
            continue
        member = own_member(group, name, episode, key)
        if isinstance(member, h5py.Group):
            yield from _arrays(member, episode, key, frozenset(), depth=depth + 1, left=left)
            continue
        with reading(episode, key):
            wanted = member.shape is not None and member.ndim > 0 and member.dtype.kind != "V"
        if wanted:
            yield key, member


def text_attribute(holder, name: str, episode: str) -> str:
    """An attribute as text, "" where there is none. Raises DataError when it is no text or too long to be one."""
    with reading(episode, f"attribute {name}"):
        if name not in holder.attrs:
            return ""
        if holder.attrs.get_id(name).get_storage_size() > MAX_ATTRIBUTE_BYTES:
            raise DataError("is too long for text", episode=episode, field=f"attribute {name}")
        value = holder.attrs[name]
    if isinstance(value, bytes | np.bytes_):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):  # h5py keeps bytes that are no UTF-8 as half surrogate pairs.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    raise DataError("is not text", episode=episode, field=f"attribute {name}")
