"""Reads pickles of numpy arrays and plain containers, and nothing else: a pickle is a program, and raw data comes from
strangers. Files that need another class (ROS messages, a lab's own) are refused by the class's name; they must be
converted where that class is at home.

Before it is loaded, a pickle's instructions are listed once: lengths and places that go beyond the file, for which the
unpickler would allocate whatever they say, are refused. That costs half a microsecond an instruction. Dtypes are made
anew from what the pickle says of them (pickled_dtype.py).
"""

import mmap
import os
import pickle
import pickletools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, cast

import numpy as np

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.pickled_dtype import PickledArray, PickledDtype, as_dtype

MAX_WIDTH = 1024
"""Numbers in one row of a table out of a pickle: no robot has so many joints."""


def load_pickle(path: str | Path) -> object:
    """What a pickle holds: numpy arrays and scalars, dicts, lists, tuples, sets, strings, bytes, numbers.

    Arrays are of a subclass of ndarray; a dtype by itself comes as a PickledDtype.
    Nothing that the file names is imported or called. Pickle protocols 0 to 5, NumPy 1 and 2; strings of Python 2 are
    read as Latin-1, as NumPy's own files need. Raises DataError naming the foreign class, or saying how the file is
    damaged, or that it is missing.
    """
    return _unpickled(Path(path), lambda file: None)


def load_object_npy(path: str | Path) -> object:
    """What an .npy file of one Python object holds (`np.save` of a dict), read like `load_pickle`."""

    def skip_header(file: IO[bytes]) -> None:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not an .npy file of version 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != () or not dtype.hasobject:
            raise ValueError(f"holds {dtype} {list(shape)}, must hold one Python object")

    content = _unpickled(Path(path), skip_header)
    return content.item() if isinstance(content, np.ndarray) and content.shape == () else content


def plain_numbers(value: object, *, most_rows: int) -> np.ndarray:
    """float64 array of an array in a pickle, or of a list of at most `most_rows` numbers or rows of numbers.

    ValueError for anything else: text, complex numbers, more than MAX_WIDTH values a row, lists nested deeper. A few
    bytes of a pickle can hold one list inside another a million million times, so that is looked at before NumPy does.
    """
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    if isinstance(value, list | tuple):
        fits = len(value) <= most_rows and all(map(_is_number_or_row, value))
    else:
        fits = isinstance(value, np.ndarray) and _is_numeric(value) and value.size <= most_rows * MAX_WIDTH
    if not fits:
        raise ValueError(f"must be numbers, at most {most_rows} rows of {MAX_WIDTH}")
    try:
        return np.asarray(value, np.float64)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _is_number_or_row(value: object) -> bool:
    if isinstance(value, np.ndarray | np.generic):
        return _is_numeric(value) and value.size <= MAX_WIDTH
    if isinstance(value, list | tuple):
        return len(value) <= MAX_WIDTH and all(isinstance(item, int | float | np.number) for item in value)
    return isinstance(value, int | float)


def _is_numeric(value: np.ndarray | np.generic) -> bool:
    return value.dtype.kind in "fiub"


def _unpickled(path: Path, to_the_pickle: Callable[[IO[bytes]], None]) -> object:
    where = {"episode": str(path.parent), "field": path.name}
    try:
        with path.open("rb") as file:
            to_the_pickle(file)
            _check_lengths(file)
            return _NumpyUnpickler(file, encoding="latin1").load()
    except FileNotFoundError:
        raise DataError("no such file", **where) from None
    except _ForeignClass as error:
        remedy = "save it again as plain numpy arrays where that class is installed"
        raise DataError(f"needs the class {error}, which is not numpy; {remedy}", **where) from None
    except Exception as error:
        # A damaged pickle raises almost anything: EOFError, ValueError, KeyError, TypeError, AttributeError ...
        what = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"does not unpickle: {what}", **where) from None


def _check_lengths(file: IO[bytes]) -> None:
    """ValueError where the pickle that starts here is cut, declares a frame beyond the end, or numbers what it keeps
    higher than it has instructions."""
    size = os.fstat(file.fileno()).st_size
    if file.tell() == size:
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        content.seek(file.tell())
        for number, (instruction, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], content))):
            most = {"FRAME": size, "PUT": number, "BINPUT": number, "LONG_BINPUT": number}.get(instruction.name)
            if most is not None and (argument is None or argument > most):
                raise ValueError(f"{instruction.name} {argument} in a pickle of {size} bytes")


class _ForeignClass(pickle.UnpicklingError):
    """The pickle asks for a class that is not admitted; the message is the class's name."""


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        admitted = _admitted()
        if (module, name) not in admitted:
            raise _ForeignClass(f"{module}.{name}")
        return admitted[module, name]


_ARRAY_TYPE = object()
"""Stands for numpy.ndarray where a pickle names it. Not callable: `ndarray(shape, dtype=object, buffer=...)`, written
by hand into a pickle, would take bytes of the file for pointers."""


@cache
def _admitted() -> dict[tuple[str, str], object]:
    """(module, name) as pickles spell it to what is called for it."""
    constructors = {
        "_reconstruct": _empty_array,
        "scalar": _scalar,
        "_frombuffer": _array_of_bytes,
    }
    table: dict[tuple[str, str], object] = {
        (f"{package}.{module}", name): constructor
        for package in ("numpy.core", "numpy._core")  # NumPy 1 and 2
        for module in ("multiarray", "numeric")
        for name, constructor in constructors.items()
    }
    table |= {("numpy", "ndarray"): _ARRAY_TYPE, ("numpy", "dtype"): PickledDtype}
    for builtins in ("builtins", "__builtin__"):  # Python 3 and 2
        table |= {(builtins, kind.__name__): kind for kind in (set, frozenset, bytearray, complex, slice)}
    table["collections", "OrderedDict"] = dict
    table["_codecs", "encode"] = _latin1_bytes  # how protocols 0 to 2 write bytes
    return table


def _empty_array(kind: object, shape: object, typecode: object) -> np.ndarray:
    """The empty array into which the pickle then puts shape, dtype and data, all checked by NumPy."""
    if kind is not _ARRAY_TYPE:
        raise pickle.UnpicklingError("an array of a foreign class")
    return np.empty(0, np.uint8).view(PickledArray)


def _array_of_bytes(data: object, dtype: object, shape: object, order: object) -> np.ndarray:
    """How protocol 5 writes an array; NumPy checks that the bytes are as many as the shape says."""
    return np.frombuffer(data, as_dtype(dtype)).reshape(shape, order=order)  # type: ignore[call-overload]


def _scalar(dtype: object, data: bytes) -> np.generic:
    made = as_dtype(dtype)
    if made.hasobject:
        raise pickle.UnpicklingError(f"a scalar of type {made!r}, which is not a number")
    return np.frombuffer(data, made, count=1)[0]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError("bytes in another encoding than latin1")
    return text.encode("latin1")
