"""What a spec is made of: channels, cameras, language, success, split, and how sources and slots are named in them."""

import difflib
import re
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, field_validator

from schemas.operations import ColumnOperation, Model, Plus
from schemas.slots import ACTION_GROUPS, ACTION_NAMES, STATE_GROUPS, STATE_NAMES

_SOURCE = re.compile(r"^(?P<key>[^\[\]]+)(\[(?P<slice>-?\d+|(-?\d+)?:(-?\d+)?)\])?$")


class Channel(Model):
    """One column or run of columns of the source and the slots it fills."""

    slots: str | list[str]
    """A group ("arm0.gripper"), a part of one ("arm0.joint_position[0:6]") or single slots
    ("arm0.eef_position_delta.x", ...) out of schemas/slots.py."""
    source: str
    """Flat key, with an optional slice of the last axis: "action[0:3]", "observation/state[-1]"."""
    ops: list[ColumnOperation] = Field(default_factory=list)
    kind: Literal["delta", "absolute", "velocity"] = "absolute"
    """What a value of an action means; states are always absolute."""
    unit: str = "source"
    """Of the values after `ops`; "source" where nobody states the source's."""
    frame: str = "source"

    @field_validator("source")
    @classmethod
    def _source_parses(cls, value: str) -> str:
        parse_source(value)
        return value

    @field_validator("ops")
    @classmethod
    def _sources_of_operations_parse(cls, value: list[ColumnOperation]) -> list[ColumnOperation]:
        for op in value:
            if isinstance(op, Plus):
                parse_source(op.source)
        return value


class Camera(Model):
    source: str
    colour: Literal["rgb", "bgr"] = "rgb"
    """Channel order as stored. "bgr" and a flip are put right by re-encoding; otherwise bytes pass unchanged."""
    flip: Literal["none", "vertical", "rotate_180"] = "none"
    """How the stored image must be turned to stand upright."""
    missing: Literal["never", "black", "absent"] = "never"
    """"black": an episode without this camera carries all-black images instead; "absent": it has no such key."""
    encode: Literal["jpeg", "png"] = "jpeg"
    """Only for a source of bare pixels (HDF5 arrays, videos): JPEG of quality 95, colour not subsampled, or lossless
    PNG."""
    height_px: int = Field(default=0, ge=0)
    """Only for a source of bare pixels: larger images are scaled down to this height, aspect kept. 0 keeps their
    size."""


class Language(Model):
    sources: list[str] = Field(default_factory=list)
    """Keys of labels, main one first; the others become alternatives. Step keys are read at the first step."""
    compared: list[str] = Field(default_factory=list)
    """Keys in the metadata of labels that are not trusted: never given to training, but where one is another sentence
    than the instruction, the episode has the label flag "differs_from:<key>"."""
    encoding: Literal["text", "utf8_codes"] = "text"
    """"utf8_codes": zero-padded integers, one UTF-8 byte each (language_table)."""
    blank: bool = False
    """The label says nothing (one constant for all): kept raw, never given to training."""
    placeholders: list[str] = Field(default_factory=list)
    """Further sentences that mean "no instruction" in this data set, compared case-folded."""


class Success(Model):
    """Where the outcome of an episode is written: true/1/matching means success, else failure."""

    source: str
    pattern: str = ""
    """Regular expression searched in a text source, e.g. "/success/"."""
    valid_if: str = ""
    """Key that must be true for the outcome to count (fractal rates only some episodes); else it is unknown."""

    @field_validator("pattern")
    @classmethod
    def _pattern_compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


class Split(Model):
    names: dict[str, Literal["train", "val", "test"]] = Field(default={"train": "train", "val": "val", "test": "test"})
    """The source's split names to ours."""
    val_share: float = Field(default=0.05, ge=0, lt=1)
    """Held out by a hash of the episode id where the source has no val or test split of its own."""
    group_by: str = ""
    """Metadata key whose episodes must stay on one side (scene, operator); "" means each episode by itself."""


def parse_source(source: str) -> tuple[str, slice | None]:
    """("observation/state[3:6]") -> ("observation/state", slice(3, 6)); without brackets the slice is None.

    Raises ValueError for anything else. A single index becomes a slice of width one, so columns stay two-dimensional.
    """
    match = _SOURCE.match(source)
    if not match:
        raise ValueError(f"source {source!r} does not parse; write key, key[i] or key[a:b]")
    text = match["slice"]
    if text is None:
        return match["key"], None
    if ":" not in text:
        index = int(text)
        return match["key"], slice(index, index + 1 or None)
    start, stop = (int(part) if part else None for part in text.split(":"))
    return match["key"], slice(start, stop)


def slot_indices(slots: str | list[str], what: Literal["action", "state"]) -> list[int]:
    """Indices of a group, of a part of it ("arm0.joint_position[0:6]") or of single slots.

    ValueError with the nearest names for an unknown one, and for a part that is empty.
    """
    groups, names = (ACTION_GROUPS, ACTION_NAMES) if what == "action" else (STATE_GROUPS, STATE_NAMES)
    if isinstance(slots, str):
        match = _SOURCE.match(slots)
        if match and match["key"] in groups:
            key, part = parse_source(slots)
            indices = list(groups[key].indices)[part or slice(None)]
            if not indices:
                raise ValueError(f"{what} slots {slots!r} are none; {key} is {groups[key].width} wide")
            return indices
    indices = []
    for name in [slots] if isinstance(slots, str) else slots:
        if name not in names:
            raise ValueError(f"{what} slot {name!r} is unknown{nearest(name, (*groups, *names))}")
        indices.append(names.index(name))
    return indices


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean a, b?' for the known words nearest to `word`, or '; there are ...' when none is near."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {', '.join(close)}?"
    return f"; there are {', '.join(sorted(known)[:20])}" if known else ""
