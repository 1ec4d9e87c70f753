"""DatasetSpec: everything that is particular about one data set, as validated data. Adding an RLDS data set is one YAML
file in `schemas/datasets/`, and no code; `schemas/spec.py` reads these files.

A spec names the source's keys and the operations that bring them into the unified slots. What a source does not say
about a unit or a frame is written `source` there (brought to scale by statistics alone): never guessed in silence.
"""

import hashlib
import json
from typing import Literal

from pydantic import Field, model_validator

from schemas.bag import BagLayout
from schemas.operations import (
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

SPEC_FORMAT: Literal[1] = 1


class DatasetSpec(Model):
    """The declarative description of one data set; see docs/add_a_dataset.md for a worked one."""

    format: Literal[1] = SPEC_FORMAT
    name: str = Field(pattern=r"^[a-z][A-Za-z0-9_]*$")
    variant_of: str = ""
    """The data set's own name where this is one of its variants (set on loading, from the key `variants`)."""
    published_name: str = ""
    """What the source calls itself where that is not `name`, e.g. "fmb" for fmb_dataset."""
    other_names: list[str] = Field(default_factory=list)
    """Further names that copies go by: of their folder, or in dataset_info.json ("r2d2_faceblur" for droid)."""
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

    def names(self) -> tuple[str, ...]:
        """What a copy of the data may be called, `name` first."""
        return tuple(filter(None, (self.name, self.variant_of, self.published_name, *self.other_names)))

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
