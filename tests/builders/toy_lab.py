"""A lab for tests: an episode is made from its number. Light to import, since worker processes import it."""

import os
import signal

import numpy as np
import simplejpeg

from oxe_pipeline.episode import DataError, SourceEpisode
from schemas.spec import DatasetSpec

SPEC = DatasetSpec.model_validate(
    {
        "name": "toy",
        "source_kind": "raw",
        "title": "Toy",
        "lab": "toy lab",
        "robot": "toy robot",
        "control_hz": 10,
        "licence": "CC0",
        "citation": "none",
        "cameras": {"primary": {"source": "image"}},
        "action": [{"slots": "arm0.eef_position_delta", "source": "action", "kind": "delta"}],
        "state": [{"slots": "arm0.eef_position", "source": "state"}],
        "action_raw": ["action"],
        "state_raw": ["state"],
        "language": {"sources": ["instruction"]},
    }
)

BROKEN, NOT_A_NUMBER, CRASHING = 1000, 2000, 3000
"""Numbers from here on are episodes that cannot be read, whose action holds a NaN, or that end the process."""


def image(number: int, step: int) -> bytes:
    pixels = np.full((16, 24, 3), (number * 3 + step * 10) % 256, np.uint8)
    pixels[:8] //= 2
    return simplejpeg.encode_jpeg(pixels)


def read_toy_episode(number: int) -> SourceEpisode:
    """Episode `number`: 3 to 5 steps; its action holds the number."""
    if BROKEN <= number < NOT_A_NUMBER:
        raise DataError("file is cut short", episode=str(number), field="file")
    if number >= CRASHING:
        os.kill(os.getpid(), signal.SIGSEGV)
    steps = 3 + number % 3
    action = np.full((steps, 3), number, np.float32)
    if number >= NOT_A_NUMBER:
        action[1, 2] = np.nan
    columns = {
        "action": action,
        "state": np.arange(steps * 3, dtype=np.float32).reshape(steps, 3),
        "image": [image(number, step) for step in range(steps)],
        "instruction": [f"push block {number}"] * steps,
    }
    return SourceEpisode(key=str(number), source_path=f"raw/{number}", steps=columns, split="")


def read_and_log(number: int) -> SourceEpisode:
    """As above, leaving a note of each number read: only usable without other processes."""
    READ.append(number)
    return read_toy_episode(number)


READ: list[int] = []


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"negative: {number}")
    return number * number
