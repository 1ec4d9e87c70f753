"""DatasetSpec: everything that is particular about one data set, as validated data. Adding an RLDS data set is one YAML
file in `schemas/datasets/`, and no code.

A spec names the source's keys and the operations that bring them into the unified slots. What a source does not say
about a unit or a frame is written `source` there (brought to scale by statistics alone): never guessed in silence.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from schemas.operations import (
    OPERATIONS,
    ActionFromState,
    BaseMotionFromState,
    EpisodeOperation,
    GripperFromState,
    JointDeltaToTarget,
    Model,
    TargetToDelta,
    ToolToBaseFrame,
)
from schemas.slots import ACTION_GROUPS, ACTION_NAMES, CAMERAS, STATE_GROUPS, STATE_NAMES
from schemas.spec_parts import Camera, Channel, Language, Split, Success, nearest, parse_source, slot_indices
from schemas.bag import BagColumn, BagLayout

DATASETS_FOLDER = Path(__file__).parent / "datasets"
SPEC_FORMAT: Literal[1] = 1

VARIANT_MARK = "_as_"
"""Between the name of a data set and of a variant: "taco_play_as_octo"."""
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C where PyYAML was built with it: a hundred specs are read when builders/oxe is imported."""


class SpecError(ValueError):
    """A spec that does not hold: which file, which key, which value, and the remedy, in one line."""


class DatasetSpec(Model):
    """The declarative description of one data set; see docs/add_a_dataset.md for a worked one."""

    format: Literal[1] = SPEC_FORMAT
    name: str = Field(pattern=r"^[a-z][A-Za-z0-9_]*$")
    variant_of: str = ""
    """The data set's own name where this is one of its variants (set on loading, from the key `variants`)."""
    published_name: str = ""
    """What the source calls itself where that is not `name`, e.g. "fmb" for fmb_dataset."""
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
    bag: BagLayout | None = None
    """For bags (builders/rosbag): which topics make which columns."""
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
        for op in self.episode_ops:
            if isinstance(op, BaseMotionFromState) and not set(STATE_GROUPS["base_pose"].indices) <= set(
                self.state_indices()
            ):
                raise ValueError(f"{op.op} needs all of base_pose in the state")
            if isinstance(op, GripperFromState):
                self._require_states(op.op, f"{op.arm}.gripper", f"{op.arm}.gripper")
            if isinstance(op, ToolToBaseFrame):
                self._require_orientation(op)
            if isinstance(op, ActionFromState | TargetToDelta | JointDeltaToTarget):
                if op.op != "joint_delta_to_target":
                    self._require_states(op.op, f"{op.arm}.eef_position_delta", f"{op.arm}.eef_position")
                    self._require_orientation(op)
                if op.op != "target_to_delta":
                    self._require_states(op.op, f"{op.arm}.joint_position", f"{op.arm}.joint_position")
        return self

    def _require_states(self, op: str, moved: str, position: str) -> None:
        has_action, has_state = set(self.action_indices()), set(self.state_indices())
        positions = STATE_GROUPS[position]
        indices = zip(ACTION_GROUPS[moved].indices, positions.indices, positions.slot_names, strict=True)
        for delta, present, name in indices:
            if delta in has_action and present not in has_state:
                raise ValueError(f"{op} needs state slot {name}, which no channel fills")

    def _require_orientation(self, op: ActionFromState | TargetToDelta | ToolToBaseFrame) -> None:
        has_action, has_state = set(self.action_indices()), set(self.state_indices())
        turn = set(ACTION_GROUPS[f"{op.arm}.eef_rotation_delta"].indices)
        orientation = STATE_GROUPS[f"{op.arm}.eef_rotation_6d"]
        subtracted = isinstance(op, ActionFromState) and op.angles == "subtracted"
        needed = set(orientation.indices[:3] if subtracted else orientation.indices)
        if turn & has_action and not (turn <= has_action and needed <= has_state):
            raise ValueError(
                f"{op.op} needs all of {orientation.name} in the state and the whole rotation in the action"
            )

    def content_hash(self) -> str:
        """16 hexadecimal digits over everything said, whatever the YAML looks like; defaults left out do not count."""
        said = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def source_keys(self) -> set[str]:
        """Every key of the source that is named: what a reader of large files must read, and no more."""
        channels = [channel.source for channel in (*self.action, *self.state)]
        keys = {parse_source(text)[0] for text in (*channels, *self.action_raw, *self.state_raw)}
        keys |= {camera.source for camera in self.cameras.values()} | set(self.language.sources)
        outcome = (self.success.source, self.success.valid_if) if self.success else ()
        return (keys | {*outcome, self.split.group_by}) - {""}

    def action_indices(self) -> list[int]:
        """Indices of the action slots this data set has, ascending."""
        return sorted(i for channel in self.action for i in slot_indices(channel.slots, "action"))

    def state_indices(self) -> list[int]:
        """Indices of the state slots this data set has, ascending."""
        return sorted(i for channel in self.state for i in slot_indices(channel.slots, "state"))

    def action_kinds(self) -> dict[str, str]:
        """Action slot name to its kind: "delta", "absolute" or "velocity"."""
        return {ACTION_NAMES[i]: channel.kind for channel in self.action for i in slot_indices(channel.slots, "action")}


def load_spec_file(path: str | Path, variant: str = "") -> DatasetSpec:
    """The spec in a YAML file, or one of its variants. Raises SpecError with file, key, value and nearest known key.

    `like: other` takes every top-level key that the file does not state from other.yaml beside it. A variant does the
    same with its own file's keys; its required key `why`, and then its `notes`, become the notes.
    """
    path = Path(path)
    content = _whole_content(path)
    variants = _variants(path, content)
    where = str(path)
    if variant:
        if variant not in variants:
            raise SpecError(f"{path}: no variant {variant!r}{nearest(variant, variants)}")
        where = f"{path}: variants.{variant}"
        content = _as_variant(content, variant, variants[variant])
    try:
        return DatasetSpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{where}: {_first_fault(error)}") from None


def _whole_content(path: Path) -> dict:
    """The mapping in a file, with what it takes from the file that it is `like`."""
    content = _read_mapping(path)
    if "like" not in content:
        return content
    like = content.pop("like")
    other = path.parent / f"{like}.yaml"
    if not isinstance(like, str) or not other.is_file():
        known = [beside.stem for beside in path.parent.glob("*.yaml")]
        raise SpecError(f"{path}: like: there is no spec {like!r} beside it{nearest(str(like), known)}")
    base = _read_mapping(other)
    if "like" in base:
        raise SpecError(f"{path}: like: {other.name} is itself like another; name {base['like']!r} instead")
    return base | content


def _read_mapping(path: Path) -> dict:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML_LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as text ({error}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path}: must hold a mapping of keys, holds {type(content).__name__}")
    return content


def _variants(path: Path, content: dict) -> dict[str, dict]:
    """Takes the key `variants` out of `content`: name to what the variant states."""
    variants = content.pop("variants", {})
    if not isinstance(variants, dict):
        raise SpecError(f"{path}: variants: must hold a mapping of names, holds {type(variants).__name__}")
    for name, said in variants.items():
        if not isinstance(said, dict) or not isinstance(said.get("why"), str) or not said["why"].strip():
            raise SpecError(f"{path}: variants.{name}: must be a mapping with a sentence under `why`")
        if own := {"name", "variants", "like", "variant_of"} & set(said):
            raise SpecError(f"{path}: variants.{name}: {min(own)} cannot differ in a variant; leave it out")
    return variants


def _as_variant(content: dict, variant: str, said: dict) -> dict:
    overrides = {key: value for key, value in said.items() if key not in ("why", "notes")}
    name = content.get("name", "")
    named = {"name": f"{name}{VARIANT_MARK}{variant}", "variant_of": name}
    return content | overrides | named | {"notes": [said["why"], *said.get("notes", [])]}


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
    return (*_keys_of(DatasetSpec, Channel, Camera, Language, Success, Split, BagColumn, BagLayout), "like", "variants")


@cache
def _operation_keys() -> tuple[str, ...]:
    return _keys_of(*OPERATIONS)


def _keys_of(*models: type[Model]) -> tuple[str, ...]:
    """As a YAML file spells them."""
    return tuple(sorted({field.alias or key for model in models for key, field in model.model_fields.items()}))


def spec_names() -> list[str]:
    """Names of all data sets that ship with a spec, sorted; their variants are in `variant_names`."""
    return sorted(path.stem for path in DATASETS_FOLDER.glob("*.yaml"))


@cache
def variant_names() -> list[str]:
    """Names under which `load_spec` gives the variants that ship, e.g. "taco_play_as_octo", sorted."""
    return sorted(
        f"{path.stem}{VARIANT_MARK}{variant}"
        for path in DATASETS_FOLDER.glob("*.yaml")
        for variant in _variants(path, _whole_content(path))
    )


@cache
def load_spec(name: str) -> DatasetSpec:
    """The shipped spec of a data set, or of a variant of it ("<data set>_as_<variant>").

    SpecError with the nearest names for an unknown one.
    """
    path, variant = DATASETS_FOLDER / f"{name}.yaml", ""
    if not path.is_file():
        base, mark, variant = name.rpartition(VARIANT_MARK)
        path = DATASETS_FOLDER / f"{base}.yaml"
        if not mark or not path.is_file():
            raise SpecError(f"no spec for data set {name!r} in {DATASETS_FOLDER}{nearest(name, spec_names())}")
    spec = load_spec_file(path, variant)
    if spec.name != name:
        raise SpecError(f"{path}: name is {spec.name!r}; must equal the file's name")
    return spec
