"""Overlays: which steps of a stream may be drawn and how often, as a small file beside the data, never a rewrite of it.

    overlays/<name>.arrow      ranges of window starts; one header (JSON) in the schema's metadata says what made them

An overlay belongs to one stream, by identity, and has an identity of its own over what it draws, which goes into the
mixture's. It holds all splits; a mixture takes those of its own. The shard job leaves overlays alone: made again from
other data, the stream has another identity and refuses them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import Field, ValidationError

from oxe_pipeline.overlays.window_ranges import MAX_REPEATS, WindowRanges
from oxe_pipeline.stream.format import UNCOMPRESSED, StreamError, canonical_json, write_whole
from schemas.operations import Model
from schemas.spec import nearest

OVERLAYS_FOLDER = "overlays"
SUFFIX = ".arrow"
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_HEADER_KEY = b"overlay"
_COLUMNS = ("episode", "first_step", "end_step", "repeats")


class OverlayError(StreamError):
    """An overlay that cannot be made, or not be used with this stream: where, what, and the remedy, in one line."""


class RuleEffect(Model):
    """One rule of an overlay, and what was left after it and all rules before it."""

    rule: str
    parameters: dict
    episodes_removed: int
    steps_removed: int
    episodes_left: int
    steps_left: int


class OverlayHeader(Model):
    """What an overlay is, for people and for checks. Holds no time and no path of the writing machine."""

    format: Literal[1] = 1
    name: str = Field(pattern=f"^{NAME_PATTERN}$")
    dataset: str
    stream: str
    """Identity of the stream that it was made for."""
    code_version: str
    episodes: int
    steps: int
    """Of the stream, all splits."""
    rules: list[RuleEffect]
    """In the order in which they were applied."""
    steps_left: dict[str, int]
    """Split to the different steps that may be drawn of it."""
    windows: dict[str, int]
    """Split to the windows of one epoch: each step as often as it is repeated."""
    identity: str
    """32 hexadecimal digits over the stream's identity and the ranges: what is drawn, whatever it is called and
    whichever rules led there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlay:
    """An overlay in memory: 16 bytes per range."""

    header: OverlayHeader
    ranges: WindowRanges


def ranges_identity(stream: str, ranges: WindowRanges) -> str:
    """Identity of the overlay of these ranges on the stream of identity `stream`."""
    digest = xxhash.xxh3_128(canonical_json([1, stream, len(ranges)]).encode())
    for name in _COLUMNS:
        digest.update(np.ascontiguousarray(getattr(ranges, name), "<i4").tobytes())
    return digest.hexdigest()


def overlay_path(stream: str | Path, name: str) -> Path:
    """Where the overlay `name` of the stream in folder `stream` lies; OverlayError for what is no name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise OverlayError(
            f"{name!r} is no name of an overlay; use letters, digits, - and _, e.g. no_idle, or the path "
            f"of a file that ends in {SUFFIX}"
        )
    return Path(stream) / OVERLAYS_FOLDER / f"{name}{SUFFIX}"


def is_path(overlay: str) -> bool:
    """Whether a mixture's `overlay` is the path of a file rather than a name."""
    return overlay.endswith(SUFFIX)


def overlay_names(stream: str | Path) -> list[str]:
    """Names of the overlays that lie beside a stream's data, sorted; empty when there is none."""
    return sorted(path.stem for path in (Path(stream) / OVERLAYS_FOLDER).glob(f"*{SUFFIX}"))


def write_overlay(path: str | Path, overlay: Overlay) -> None:
    """Writes the file whole or not at all. The same overlay gives the same bytes."""
    metadata = {_HEADER_KEY: canonical_json(overlay.header.model_dump()).encode()}
    schema = pa.schema([(name, pa.int32()) for name in _COLUMNS], metadata)
    columns = [pa.array(getattr(overlay.ranges, name), pa.int32()) for name in _COLUMNS]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=UNCOMPRESSED) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    write_whole(path, sink.getvalue().to_pybytes())


def read_overlay(path: str | Path, stream_identity: str, length: np.ndarray) -> Overlay:
    """The overlay in a file, checked against the stream it is to be used with: its identity, and the `length` [steps]
    int [E] of its episodes.

    Raises OverlayError for a missing or damaged file and for an overlay of another stream, both identities named.
    """
    header, ranges = _read(Path(path))
    if header.stream != stream_identity:
        raise OverlayError(
            f"{path}: was made for stream {header.stream} of {header.dataset}, this stream is {stream_identity}; make "
            f"it again: python -m oxe_pipeline.overlay --stream DIR --name {header.name} --overwrite, with the same "
            "rules (they are in the file: --list)"
        )
    intact = ranges_identity(header.stream, ranges) == header.identity
    fault = _fault(ranges, length) if intact else "its content does not match its hash"
    if fault:
        raise OverlayError(f"{path}: damaged: {fault}; make it again with python -m oxe_pipeline.overlay --overwrite")
    return Overlay(header=header, ranges=ranges)


def read_header(path: str | Path) -> OverlayHeader:
    """What an overlay says of itself, unchecked against any stream; OverlayError when absent or damaged."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[OverlayHeader, WindowRanges]:
    try:
        with pa.OSFile(str(path), "rb") as file:
            table = pa.ipc.open_file(file).read_all()
        header = OverlayHeader.model_validate_json((table.schema.metadata or {}).get(_HEADER_KEY, b""))
        columns = [table.column(name).to_numpy().astype(np.int32, casting="safe") for name in _COLUMNS]
    except FileNotFoundError:
        known = overlay_names(path.parent.parent) if path.parent.name == OVERLAYS_FOLDER else []
        hint = nearest(path.stem, known) or "; make one with python -m oxe_pipeline.overlay"
        raise OverlayError(f"{path}: no such overlay{hint}") from None
    except (OSError, KeyError, TypeError, pa.ArrowInvalid, ValidationError) as error:
        raise OverlayError(
            f"{path}: is no overlay of format 1 ({str(error).splitlines()[0]}); make it again with "
            "python -m oxe_pipeline.overlay --overwrite"
        ) from None
    return header, WindowRanges(*columns)


def _fault(ranges: WindowRanges, length: np.ndarray) -> str:
    """What makes the ranges no ranges of a stream with these episodes; "" for nothing."""
    if not len(ranges):
        return ""
    if ranges.episode.min() < 0 or ranges.episode.max() >= len(length):
        return f"names an episode outside the stream's {len(length)}"
    if (ranges.first_step < 0).any() or (ranges.end_step > length[ranges.episode]).any():
        return "names steps that their episodes lack"
    if (
        ranges.end_step <= ranges.first_step
    ).any() or not 1 <= ranges.repeats.min() <= ranges.repeats.max() <= MAX_REPEATS:
        return f"has an empty range, or repeats outside 1 to {MAX_REPEATS}"
    later_episode = ranges.episode[1:] > ranges.episode[:-1]
    same_episode = ranges.episode[1:] == ranges.episode[:-1]
    if not (later_episode | (same_episode & (ranges.first_step[1:] >= ranges.end_step[:-1]))).all():
        return "has ranges that overlap or are not in order"
    return ""
