"""One value inside a nested one (what JSON, YAML and pickles hold) exchanged for something that nobody expects."""

import copy
import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DEEP = "@deep@"
"""Stands for a list in a list in a list, deeper than a writer can write; the text is put in afterwards."""
DEPTH = 5_000
DOUBLINGS = 40
NUMBERS = (0, -1, 1, 3, 1e308, -1e308, math.nan, math.inf, 2**31, 2**63, 10**30, 0.5, 10**9)
TEXTS = ("", "x" * 1_000_000, "\0", "\ud800", "/etc/passwd", "{}", "{0.__class__}", "%s" * 100, "1e5", "nan")

Place = tuple[object, ...]


def edited(content: object, outside: Path, rng: random.Random, *, plain: bool = True) -> tuple[object, str]:
    """(`content` with one place changed, what was done). `plain`: only what JSON can say."""
    content = copy.deepcopy(content)
    places = list(_places(content, ()))
    if not places:
        return strange(content, outside, rng, plain=plain), "the whole"
    place = rng.choice(places)
    holder = content
    for step in place[:-1]:
        holder = holder[step]  # type: ignore[index]
    last, said = place[-1], "/".join(map(str, place))[:80]
    match rng.randrange(6):
        case 0:
            del holder[last]  # type: ignore[attr-defined]
            return content, f"{said} taken out"
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("", "x", "../x"))] = holder.pop(last)
            return content, f"{said} renamed"
        case 1:
            holder.extend(copy.deepcopy(holder[last]) for _ in range(rng.choice((1, 100))))  # type: ignore[attr-defined, index]
            return content, f"{said} repeated"
        case _:
            value = strange(holder[last], outside, rng, plain=plain)  # type: ignore[index]
            holder[last] = value  # type: ignore[index]
            return content, f"{said} := {_shown(value)}"


def strange(value: object, outside: Path, rng: random.Random, *, plain: bool = True) -> object:
    """Something in place of `value`: often of the same type, so that it gets further."""
    if isinstance(value, np.ndarray) and rng.random() < 0.8:
        return strange_array(value, rng)
    if isinstance(value, str) and rng.random() < 0.6:
        leading_out = (f"../{outside.name}/{value}", f"{outside}/{value}", f"{value}/../../{outside.name}/{value}")
        return rng.choice((*leading_out, value[:-1], value + "x", value * 1000, *TEXTS))
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice((value + 1, value - 1, -value, value * 1_000_000, *NUMBERS))
    others: list = [None, True, rng.choice(NUMBERS), rng.choice(TEXTS), [], {}, [value], {"a": value}, DEEP, str(value)]
    others += [[value] * 1000, [[0, 1], [2]], [None]]
    if not plain:
        others += [_doubled(), _containing_itself(), {1, 2}, b"\xff", 1j, np.float64("nan"), bytearray(9), (value,)]
    return rng.choice(others)


def strange_array(values: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array of another dtype, shape or content."""
    changed = values.copy()
    match rng.randrange(9):
        case 0 if changed.size and changed.dtype.kind == "f":
            changed.flat[rng.randrange(changed.size)] = rng.choice((math.nan, math.inf, 1e308, 1e30))
            return changed
        case 1 if changed.size and changed.dtype.kind in "iu":
            limits = np.iinfo(changed.dtype)
            changed.flat[rng.randrange(changed.size)] = rng.choice((limits.min, limits.max))
            return changed
        case 2 if changed.ndim:
            return changed[:0]
        case 3:
            return changed[: rng.randrange(len(changed))] if changed.ndim and len(changed) else changed[..., None]
        case 4:
            return changed.reshape(-1) if changed.ndim != 1 else changed[:, None]
        case 5:
            return np.broadcast_to(changed, (2, *changed.shape)).copy()
        case 6 if changed.dtype.kind in "fiub":
            return changed.astype(rng.choice((np.float16, np.complex128, np.uint64, bool, "S3", "U5", np.int8)))
        case 7:
            return np.zeros(changed.shape, [("a", "f4"), ("b", "S2")])
        case 8:
            return np.repeat(changed, 50, axis=0) if changed.ndim else changed.reshape(1)
    return changed[..., None]


def deep_text() -> str:
    return "[" * DEPTH + "]" * DEPTH


def _places(content: object, above: Place) -> Iterator[Place]:
    if isinstance(content, dict):
        items: Iterator = iter(content.items())
    elif isinstance(content, list):
        items = iter(enumerate(content))
    else:
        return
    for key, value in items:
        yield (*above, key)
        yield from _places(value, (*above, key))


def _doubled() -> list:
    """2^40 values in a few hundred bytes of pickle, because one list may stand in another twice."""
    value: list = [0]
    for _ in range(DOUBLINGS):
        value = [value, value]
    return value


def _containing_itself() -> list:
    value: list = []
    value.append(value)
    return value


def _shown(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:60]
