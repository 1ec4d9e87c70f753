"""PickledDtype: stands for a NumPy dtype while a stranger's pickle is read.

np.dtype takes the inner state that a pickle hands it as it comes: given the flags of another type, it would free
numbers of the file as if they were pointers. Here that state is read like any other data, and a dtype of the same
meaning is made by NumPy's constructor, which checks.
"""

import re
from functools import cached_property
from typing import Any

import numpy as np

_TYPE = re.compile(r"[biufcSUVOMm][0-9]{1,10}")
"""How NumPy names a type in a pickle: kind and bytes, or characters of a text."""
_TIME_UNIT = re.compile(r"[YMWDhms]|[munpfa]s")


class PickledDtype:
    """What a pickle says about a dtype. ValueError for what is none."""

    def __init__(self, name: str, align: object = False, copy: object = True):
        if not isinstance(name, str) or not _TYPE.fullmatch(name):
            raise ValueError(f"{name[:40] if isinstance(name, str) else _kind(name)} is no dtype as NumPy writes it")
        self._name = name
        self._state: tuple = (3, "|", None, None, None, -1, -1, 0)

    def __setstate__(self, state: object) -> None:
        """`state` is (version, byte order, subarray, names, fields, size, alignment, flags[, unit of time])."""
        if not isinstance(state, tuple) or not 8 <= len(state) <= 9 or state[0] not in (3, 4):
            raise ValueError("a dtype's state is not of version 3 or 4")
        self._state = state
        self.__dict__.pop("dtype", None)

    @cached_property
    def dtype(self) -> np.dtype:
        """The dtype it stands for. ValueError or TypeError where the state contradicts itself, and for records within
        records, of which a few could stand for millions.
        """
        _, _, _, names, fields, size, *_ = self._state
        if names is None:
            return self._field()
        if not all(isinstance(name, str) for name in names):
            raise ValueError("names of fields must be texts")
        formats = [_of_field(fields[name][0]) for name in names]
        offsets = [fields[name][1] for name in names]
        return np.dtype({"names": list(names), "formats": formats, "offsets": offsets, "itemsize": size})

    def _field(self) -> np.dtype:
        """Of one that is no record: of one value, or of an array of them."""
        _, order, subarray, names, *_ = self._state
        if names is not None:
            raise ValueError("a record within a record")
        if subarray is not None:
            base, shape = subarray
            if not isinstance(base, PickledDtype) or base._state[2] is not None:
                raise ValueError("an array within an array")
            return np.dtype((_of_field(base), shape))
        name = self._name
        if name[0] in "Mm" and len(self._state) == 9:
            name += self._time_unit(self._state[8])
        made = np.dtype(name)
        return made.newbyteorder(order) if order in ("<", ">") else made

    @staticmethod
    def _time_unit(said: Any) -> str:
        """ "[25s]" of (metadata, ("s", 25, 1, 1)); "" for times without a unit."""
        unit, count, *_ = said[1]
        unit = unit.decode("latin1") if isinstance(unit, bytes) else unit
        if unit == "generic":
            return ""
        if not isinstance(unit, str) or not _TIME_UNIT.fullmatch(unit):
            raise ValueError("no unit of time")
        if not isinstance(count, int) or not 0 < count < 2**31:
            raise ValueError("no count of units of time")
        return f"[{count}{unit}]"


def _of_field(value: object) -> np.dtype:
    """Never with objects in it, whose pointers would be bytes of the file."""
    if not isinstance(value, PickledDtype):
        raise ValueError("a field without a dtype")
    made = value._field()
    if made.hasobject:
        raise ValueError("a record with Python objects in it")
    return made


class PickledArray(np.ndarray):
    """An array that a pickle fills: the same as any, but that its dtype may come as a PickledDtype."""

    def __setstate__(self, state: Any) -> None:
        *before, dtype, is_fortran, data = state
        super().__setstate__((*before, as_dtype(dtype), is_fortran, data))


def as_dtype(value: object) -> np.dtype:
    """The dtype that is meant; ValueError for anything but a dtype."""
    if isinstance(value, PickledDtype):
        return value.dtype
    if isinstance(value, np.dtype):
        return value
    raise ValueError(f"{_kind(value)} is no dtype")


def _kind(value: object) -> str:
    """For messages: a value itself may be one list inside another a million million times, and never be printed."""
    return type(value).__name__
