"""What stands in a bag's messages, whichever library decoded them: values by a path, time stamps, images.

A message is an object with attributes (ROS, protobuf) or a dict (JSON); both are read the same way.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence

import numpy as np

from oxe_pipeline.quality.checks import MAX_SIDE_PX, MIN_SIDE_PX
from oxe_pipeline.quality.image_headers import is_jpeg, is_png

MAX_VALUES = 4096
"""Numbers that one message may give to one column."""

_PART = re.compile(r"(?P<name>[A-Za-z]\w*)(\[(?P<slice>-?\d+|(-?\d+)?:(-?\d+)?)\])?")
_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC3": 3, "8UC1": 1}
"""Encodings of sensor_msgs/Image that are read, with their bytes a pixel; 8UC3 is BGR, as OpenCV bridges have it."""


def value_at(message: object, path: str) -> object:
    """The value at a path like "pose.position.x" or "points[0].positions[0:3]".

    Raises ValueError naming the part that is not there.
    """
    value = message
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if not match:
            raise ValueError(f"field {path!r} does not parse; write names joined by dots, with [i] or [a:b] behind")
        name = match["name"]
        if isinstance(value, Mapping):
            if name not in value:
                raise ValueError(f"no field {name!r} (of {path}); there are {', '.join(map(str, list(value)[:20]))}")
            value = value[name]
        else:
            if not hasattr(value, name):
                known = [field for field in getattr(value, "__dataclass_fields__", ()) if not field.startswith("_")]
                there = f"; there are {', '.join(known)}" if known else ""
                raise ValueError(f"no field {name!r} (of {path}){there}")
            value = getattr(value, name)
        if match["slice"] is not None:
            value = _part_of(value, match["slice"], path)
    return value


def _part_of(value: object, text: str, path: str) -> object:
    if isinstance(value, str | bytes | Mapping) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise ValueError(f"{path}: is no list, so there is no [{text}]")
    try:
        if ":" not in text:
            return value[int(text)]  # type: ignore[index]
    except IndexError:
        raise ValueError(f"{path}: the list has {len(value)} entries") from None  # type: ignore[arg-type]
    start, stop = (int(end) if end else None for end in text.split(":"))
    return value[slice(start, stop)]  # type: ignore[index]


def numbers_in(message: object, fields: Sequence[str], names: Sequence[str] = ()) -> np.ndarray | None:
    """The values of all fields end to end, float64 [k]. With `names`, those entries of the one field whose place in the
    message's `name` list is theirs; None when the message does not name them all.

    Raises ValueError for what is no number, or too much.
    """
    if names:
        said = [str(name) for name in _entries(value_at(message, "name"))]
        if not set(names) <= set(said):
            return None
        values = _flat(value_at(message, fields[0]), fields[0])
        if len(values) != len(said):
            raise ValueError(f"{fields[0]} has {len(values)} values for {len(said)} names")
        return values[[said.index(name) for name in names]]
    return np.concatenate([_flat(value_at(message, path), path) for path in fields])


def _entries(value: object) -> Sequence:
    if not isinstance(value, str) and hasattr(value, "__len__") and len(value) <= MAX_VALUES:  # type: ignore[arg-type]
        return list(value)  # type: ignore[call-overload]
    raise ValueError(f"name is no list of at most {MAX_VALUES} names")


def _flat(value: object, path: str) -> np.ndarray:
    try:
        values = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{path}: is {type(value).__name__}, not numbers") from None
    if len(values) > MAX_VALUES:
        raise ValueError(f"{path}: {len(values)} values in one message; at most {MAX_VALUES}, name a part with [a:b]")
    return values


def text_in(message: object, field: str) -> str:
    """The text at a path. Raises ValueError for anything else."""
    value = value_at(message, field)
    if not isinstance(value, str):
        raise ValueError(f"{field}: is {type(value).__name__}, not text")
    return value


def stamp_ns(message: object) -> int | None:
    """When the sender says that the message's content was measured: its header's stamp (ROS) or its `timestamp`
    (Foxglove). None without one, or with a stamp of zero, which means that nobody filled it in."""
    for path in ("header.stamp", "timestamp"):
        try:
            stamp = value_at(message, path)
        except ValueError:
            continue
        for seconds, nanoseconds in (("sec", "nanosec"), ("sec", "nsec"), ("seconds", "nanos")):
            try:
                total = int(value_at(stamp, seconds)) * 10**9 + int(value_at(stamp, nanoseconds))  # type: ignore[call-overload]
            except (ValueError, TypeError):
                continue
            return total if 0 < total < 2**63 else None
    return None


def image_in(message: object) -> bytes | np.ndarray:
    """The image as a camera topic holds it: JPEG or PNG bytes untouched, or pixels uint8 [H, W, 3], RGB.

    Row padding is taken off, blue-green-red and grey brought to RGB. Raises ValueError for other encodings (depth,
    Bayer), for sizes that do not fit the data, and for bytes that are neither JPEG nor PNG.
    """
    data = image_data(message)
    if not _has(message, "encoding"):
        if not (is_jpeg(data) or is_png(data)):
            said = value_at(message, "format") if _has(message, "format") else "?"
            raise ValueError(f"neither JPEG nor PNG (its format says {str(said)[:60]!r})")
        return data
    encoding = str(value_at(message, "encoding"))
    if encoding not in _CHANNELS:
        raise ValueError(f"encoding {encoding[:40]!r} is not read; there are {', '.join(_CHANNELS)}")
    height, width, step = (int(value_at(message, name)) for name in ("height", "width", "step"))  # type: ignore[call-overload]
    channels = _CHANNELS[encoding]
    if not (MIN_SIDE_PX <= height <= MAX_SIDE_PX and MIN_SIDE_PX <= width <= MAX_SIDE_PX):
        raise ValueError(f"{height}x{width} pixels; sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} are sane")
    if step < width * channels or len(data) < step * height:
        raise ValueError(f"{len(data)} bytes in rows of {step} do not hold {height}x{width} pixels of {encoding}")
    rows = np.frombuffer(data, np.uint8, step * height).reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels[..., 2::-1] if encoding in ("bgr8", "bgra8", "8UC3") else pixels[..., :3]


def image_data(message: object) -> bytes:
    """The bytes of an image message, encoded or not. JSON holds them as base64."""
    data = value_at(message, "data")
    if isinstance(data, str):
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("data: is text, but not base64") from None
    if isinstance(data, np.ndarray):
        return data.tobytes()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise ValueError(f"data: is {type(data).__name__}, not bytes")


def _has(message: object, name: str) -> bool:
    return name in message if isinstance(message, Mapping) else hasattr(message, name)
