"""Brings columns of different rates onto one row of steps, by time alone: pure functions over int64 nanoseconds.

A value holds until the next one of its column, or until it is too old. No step is ever given a value from after its
time, because a policy would not have it; the price against taking the nearest is that an image may be one period old.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

NS = 1_000_000_000
FOREVER_NS = np.iinfo(np.int64).max
MAX_STEPS = 1 << 22
"""A day at 48 Hz; more means times of different clocks in one recording."""
MAX_JITTER = 0.25
"""Share of the period by which the spacing of a clock's steps may differ from it and still count as even."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedColumn:
    """The times of one column's messages, and how its values are taken."""

    times_ns: np.ndarray
    """int64 [N], not decreasing."""
    max_age_ns: int = FOREVER_NS
    before_next: bool = False
    """Taken just before the next step instead of at the step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """An unbroken run of steps at which every column has a value."""

    ticks_ns: np.ndarray
    """int64 [T], rising."""
    chosen: dict[str, np.ndarray]
    """A column's name to int64 [T]: the number of the message that each step takes, not decreasing."""


def even_ticks(first_ns: int, last_ns: int, rate_hz: float) -> np.ndarray:
    """int64 [T]: first, first + 1/rate, ... not after last. Rounded one by one, so that no drift adds up.

    Raises ValueError when there would be more than MAX_STEPS.
    """
    count = int((last_ns - first_ns) * rate_hz / NS) + 1
    if count > MAX_STEPS:
        raise ValueError(f"{count} steps between the first and the last message; the columns' clocks do not agree")
    ticks = first_ns + np.rint(np.arange(max(count, 0)) * (NS / rate_hz)).astype(np.int64)
    return ticks[ticks <= last_ns]


def latest_at(times_ns: np.ndarray, ticks_ns: np.ndarray, max_age_ns: int = FOREVER_NS) -> np.ndarray:
    """For each tick the number of the last time at or before it and at most `max_age_ns` old; -1 where there is none.

    Of equal times the last one is taken. `times_ns` must not decrease.
    """
    chosen = np.searchsorted(times_ns, ticks_ns, side="right") - 1
    if not len(times_ns):
        return chosen
    too_old = ticks_ns - times_ns[np.maximum(chosen, 0)] > max_age_ns
    return np.where((chosen < 0) | too_old, -1, chosen)


def align(
    columns: Mapping[str, TimedColumn], ticks_ns: np.ndarray, *, max_step_ns: int = FOREVER_NS
) -> tuple[list[Piece], dict[str, np.ndarray]]:
    """The unbroken pieces of `ticks_ns` at which every column has a value, and per column the ticks at which it has
    none, bool [T].

    Pieces come in order of time and share no step. Steps further apart than `max_step_ns` are not in one piece. A
    column that is taken before the next step gives a piece's last step no value (nothing says when that step ends), so
    the piece loses it.
    """
    following = np.append(ticks_ns[1:], ticks_ns[-1:])
    chosen, missing = {}, {}
    observed, acted = np.ones(len(ticks_ns), bool), np.ones(len(ticks_ns), bool)
    for name, column in columns.items():
        chosen[name] = latest_at(column.times_ns, following - 1 if column.before_next else ticks_ns, column.max_age_ns)
        missing[name] = chosen[name] < 0
        (acted if column.before_next else observed)[missing[name]] = False
    needs_next = any(column.before_next for column in columns.values())
    pieces = []
    for start, stop in _runs(observed, np.diff(ticks_ns) > max_step_ns):
        stop -= needs_next
        for begin, end in _runs(acted[start:stop], np.zeros(max(stop - start - 1, 0), bool)):
            part = slice(start + begin, start + end)
            pieces.append(Piece(ticks_ns=ticks_ns[part], chosen={name: index[part] for name, index in chosen.items()}))
    return pieces, missing


def _runs(whole: np.ndarray, breaks: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of the runs of true in `whole` [T]; `breaks` [T-1] ends a run between two steps."""
    if not len(whole):
        return []
    begins = whole & np.concatenate([[True], ~whole[:-1] | breaks])
    ends = whole & np.concatenate([~whole[1:] | breaks, [True]])
    return list(zip(np.flatnonzero(begins).tolist(), (np.flatnonzero(ends) + 1).tolist(), strict=True))


def is_even(ticks_ns: np.ndarray, rate_hz: float) -> bool:
    """Whether every step lasts its period, give or take MAX_JITTER of it."""
    period = NS / rate_hz
    return bool((np.abs(np.diff(ticks_ns) - period) <= MAX_JITTER * period).all())
