"""DatasetSpec: everything that is particular about one data set, as validated data. Adding an RLDS data set is one YAML
file in `schemas/datasets/`, and no code.

A spec names the source's keys and the operations that bring them into the unified slots. What a source does not say
about a unit or a frame is written `source` there (brought to scale by statistics alone): never guessed in silence.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from schemas.operations import OPERATIONS, ActionFromState, ColumnOperation, EpisodeOperation, Model, TargetToDelta
from schemas.slots import ACTION_GROUPS, ACTION_NAMES, CAMERAS, STATE_GROUPS, STATE_NAMES

DATASETS_FOLDER = Path(__file__).parent / "datasets"
SPEC_FORMAT: Literal[1] = 1

_SOURCE = re.compile(r"^(?P<key>[^\[\]]+)(\[(?P<slice>-?\d+|(-?\d+)?:(-?\d+)?)\])?$")


class SpecError(ValueError):
    """A spec that does not hold: which file, which key, which value, and the remedy, in one line."""


class Channel(Model):
    """One column or run of columns of the source and the slots it fills."""

    slots: str | list[str]
    """A group ("arm0.gripper") or single slots ("arm0.eef_position_delta.x", ...) out of schemas/slots.py."""
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


class Camera(Model):
    source: str
    colour: Literal["rgb", "bgr"] = "rgb"
    """Channel order as stored. "bgr" and a flip are put right by re-encoding; otherwise bytes pass unchanged."""
    flip: Literal["none", "vertical", "rotate_180"] = "none"
    """How the stored image must be turned to stand upright."""
    missing: Literal["never", "black"] = "never"
    """"black": an episode without this camera carries all-black images instead."""
    encode: Literal["jpeg", "png"] = "jpeg"
    """Only for a source of bare pixels (HDF5 arrays): JPEG of quality 95, colour not subsampled, or lossless PNG."""


class Language(Model):
    sources: list[str] = Field(default_factory=list)
    """Keys of labels, main one first; the others become alternatives. Step keys are read at the first step."""
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


class DatasetSpec(Model):
    """The declarative description of one data set; see docs/add_a_dataset.md for a worked one."""

    format: Literal[1] = SPEC_FORMAT
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source_kind: Literal["rlds", "raw"] = "rlds"
    """"rlds": published as RLDS, read by builders/oxe as it stands; "raw": a lab's own files, with their own
    builder."""
    title: str
    lab: str
    robot: str
    arms: Literal[1, 2] = 1
    control_hz: float = Field(gt=0, allow_inf_nan=False)
    """Rate of the source's steps; an operation that drops steps divides it."""
    licence: str
    citation: str
    homepage: str = ""
    versions: list[str] = Field(default_factory=list)
    """Published RLDS versions that this spec was written for; empty means any."""
    expected_episodes: dict[str, int] = Field(default_factory=dict)
    cameras: dict[str, Camera] = Field(default_factory=dict)
    action: list[Channel]
    state: list[Channel] = Field(default_factory=list)
    action_raw: list[str] = Field(default_factory=list)
    """Source keys whose concatenation is the source's own action vector; 64 wide at most."""
    state_raw: list[str] = Field(default_factory=list)
    episode_ops: list[EpisodeOperation] = Field(default_factory=list)
    """Applied in this order to the whole episode after the slots are filled."""
    language: Language = Language()
    success: Success | None = None
    split: Split = Split()
    notes: list[str] = Field(default_factory=list)
    """Choices made where sources disagree, with the reason."""
    known_faults: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _slots_exist_and_are_filled_once(self) -> "DatasetSpec":
        layouts: tuple[tuple[Literal["action", "state"], list[Channel]], ...] = (
            ("action", self.action),
            ("state", self.state),
        )
        for what, channels in layouts:
            seen: dict[int, str] = {}
            for channel in channels:
                for index in slot_indices(channel.slots, what):
                    if index in seen:
                        names = ACTION_NAMES if what == "action" else STATE_NAMES
                        raise ValueError(
                            f"{what} slot {names[index]} is filled by both {seen[index]!r} and {channel.source!r}"
                        )
                    seen[index] = channel.source
        for camera in self.cameras:
            if camera not in CAMERAS:
                raise ValueError(f"camera {camera!r} is unknown{nearest(camera, CAMERAS)}")
        return self

    @model_validator(mode="after")
    def _raw_sources_parse(self) -> "DatasetSpec":
        for source in (*self.action_raw, *self.state_raw):
            parse_source(source)
        return self

    @model_validator(mode="after")
    def _episode_operations_find_their_states(self) -> "DatasetSpec":
        """A motion can only be computed for slots whose pose is in the state."""
        has_action, has_state = set(self.action_indices()), set(self.state_indices())
        for op in self.episode_ops:
            if not isinstance(op, ActionFromState | TargetToDelta):
                continue
            deltas = ACTION_GROUPS[f"{op.arm}.eef_position_delta"].indices
            positions = STATE_GROUPS[f"{op.arm}.eef_position"]
            for delta, position, name in zip(deltas, positions.indices, positions.slot_names, strict=True):
                if delta in has_action and position not in has_state:
                    raise ValueError(f"{op.op} needs state slot {name}, which no channel fills")
            turn = set(ACTION_GROUPS[f"{op.arm}.eef_rotation_delta"].indices)
            orientation = STATE_GROUPS[f"{op.arm}.eef_rotation_6d"]
            if turn & has_action and not (turn <= has_action and set(orientation.indices) <= has_state):
                raise ValueError(
                    f"{op.op} needs all of {orientation.name} in the state and the whole rotation in the action"
                )
        return self

    def content_hash(self) -> str:
        """16 hexadecimal digits over everything said, whatever the YAML looks like; defaults left out do not count."""
        said = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def action_indices(self) -> list[int]:
        """Indices of the action slots this data set has, ascending."""
        return sorted(i for channel in self.action for i in slot_indices(channel.slots, "action"))

    def state_indices(self) -> list[int]:
        """Indices of the state slots this data set has, ascending."""
        return sorted(i for channel in self.state for i in slot_indices(channel.slots, "state"))

    def action_kinds(self) -> dict[str, str]:
        """Action slot name to its kind: "delta", "absolute" or "velocity"."""
        return {ACTION_NAMES[i]: channel.kind for channel in self.action for i in slot_indices(channel.slots, "action")}


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
    """Indices of a group or of single slots; ValueError with the nearest names for an unknown one."""
    groups, names = (ACTION_GROUPS, ACTION_NAMES) if what == "action" else (STATE_GROUPS, STATE_NAMES)
    if isinstance(slots, str) and slots in groups:
        return list(groups[slots].indices)
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


def load_spec_file(path: str | Path) -> DatasetSpec:
    """The spec in a YAML file. Raises SpecError with file, key, value and nearest known key."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as text ({error}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path}: must hold a mapping of keys, holds {type(content).__name__}")
    try:
        return DatasetSpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{path}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "spec"
    if fault["type"] == "extra_forbidden":
        known = _operation_keys() if {"ops", "episode_ops"} & set(fault["loc"]) else _spec_keys()
        return f"{where}: unknown key{nearest(str(fault['loc'][-1]), known)}"
    value = fault["input"]
    shown = f" (value: {value!r})" if not isinstance(value, dict | list) else ""
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}{shown}"


@cache
def _spec_keys() -> tuple[str, ...]:
    return _keys_of(DatasetSpec, Channel, Camera, Language, Success, Split)


@cache
def _operation_keys() -> tuple[str, ...]:
    return _keys_of(*OPERATIONS)


def _keys_of(*models: type[Model]) -> tuple[str, ...]:
    """As a YAML file spells them."""
    return tuple(sorted({field.alias or key for model in models for key, field in model.model_fields.items()}))


def spec_names() -> list[str]:
    """Names of all data sets that ship with a spec, sorted."""
    return sorted(path.stem for path in DATASETS_FOLDER.glob("*.yaml"))


@cache
def load_spec(name: str) -> DatasetSpec:
    """The shipped spec of a data set; SpecError with the nearest names for an unknown one."""
    path = DATASETS_FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise SpecError(f"no spec for data set {name!r} in {DATASETS_FOLDER}{nearest(name, spec_names())}")
    spec = load_spec_file(path)
    if spec.name != name:
        raise SpecError(f"{path}: name is {spec.name!r}; must equal the file's name")
    return spec
