"""HDF5 files of strangers, read with care: nothing that a file links to elsewhere is followed, and damage is a
DataError that names file and place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.raw_folder import inside


@contextmanager
def opened(root: str | Path, file: str):
    """The h5py.File `file` below `root`, for reading. Raises DataError naming the file when it is truncated, not HDF5,
    absent, or outside `root` by a link; ImportError with the remedy without h5py."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading HDF5 needs h5py: pip install 'oxe-pipeline[build]'") from error
    path = inside(Path(root), Path(root) / file, file)
    try:
        with h5py.File(path, "r") as content:
            yield content
    except FileNotFoundError:
        raise DataError("no such file", episode=file, field="file") from None
    except (OSError, RuntimeError) as error:
        reason = f"not a whole HDF5 file, copy it again: {' '.join(str(error).split())}"
        raise DataError(reason, episode=file, field="file") from None


def own_member(group, name: str, episode: str, field: str):
    """group[name], refused with DataError where HDF5 would fetch it from elsewhere: a path out of the raw folder could
    hide there."""
    import h5py

    if isinstance(group.get(name, getlink=True), h5py.HardLink):
        member = group[name]
        if isinstance(member, h5py.Group) or not (member.external or member.is_virtual):
            return member
    reason = "is a link to another file or place; an episode must hold its own data"
    raise DataError(reason, episode=episode, field=field)


def own_group(parent, name: str, episode: str):
    """The group `name` of `parent`; DataError when it is absent, an array or a link."""
    import h5py

    if name not in parent:
        raise DataError(f"no such group in the file: {name}", episode=episode, field=name)
    group = own_member(parent, name, episode, name)
    if not isinstance(group, h5py.Group):
        raise DataError("is an array, must be a group", episode=episode, field=name)
    return group


def columns(
    group, episode: str, prefix: str, *, skip: frozenset[str] = frozenset()
) -> Iterator[tuple[str, np.ndarray]]:
    """(flat key "prefix/a/b", values [T, ...]) of every array below the group, in the file's order, read whole; scalars
    are left out, and members named in `skip` with all below them. Raises DataError naming the array that cannot be
    read."""
    import h5py

    for name in group:
        column = f"{prefix}/{name}" if prefix else name
        if name in skip:
            continue
        try:
            member = own_member(group, name, episode, column)
            if isinstance(member, h5py.Group):
                yield from columns(member, episode, column, skip=skip)
            elif member.ndim > 0:
                yield column, member[()]
        except (OSError, KeyError, RuntimeError) as error:
            raise DataError(f"cannot be read: {' '.join(str(error).split())}", episode=episode, field=column) from None
