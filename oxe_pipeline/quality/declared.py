"""Declared: what a data set says of itself, as far as audits compare it with what is found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from schemas.dataset_spec import DatasetSpec
from schemas.slots import ACTION_GROUPS, STATE_GROUPS
from schemas.spec_parts import Channel, slot_indices


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """The spec as it was applied, and the statistics and counts of the finished units."""

    control_hz: float
    spec: DatasetSpec | None = None
    """None for a data set that came without one: nothing is declared then, and units are those of the slots."""
    statistics: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """As in the manifest: vector -> slot name -> count, mean, std, min, max, q01, q99."""

    def channel(self, what: Literal["action", "state"], group: str) -> Channel | None:
        """The channel that fills the first filled slot of a group ("arm0.gripper"); None where the spec has none."""
        if self.spec is None:
            return None
        indices = set((ACTION_GROUPS if what == "action" else STATE_GROUPS)[group].indices)
        channels = self.spec.action if what == "action" else self.spec.state
        return next((channel for channel in channels if indices & set(slot_indices(channel.slots, what))), None)

    def unit_is_stated(self, what: Literal["action", "state"], group: str) -> bool:
        """False where the spec says that the source does not state the unit; true without a spec."""
        channel = self.channel(what, group)
        return channel is None or channel.unit != "source"

    def is_relative(self, group: str) -> bool:
        """Whether the action of a group is a displacement or a velocity; true without a spec."""
        channel = self.channel("action", group)
        return (
            channel is None or channel.kind != "absolute" or self._has_op(group, "target_to_delta", "delta_of_targets")
        )

    def is_target(self, group: str) -> bool:
        """Whether the action of a group is an absolute target; true without a spec."""
        channel = self.channel("action", group)
        return channel is None or channel.kind == "absolute" or self._has_op(group, "joint_delta_to_target")

    def is_computed_from_state(self, group: str) -> bool:
        """Whether the spec replaces the action of this group's arm by the motion achieved (`action_from_state`)."""
        return self._has_op(group, "action_from_state")

    def late_observations_remedy(self, steps: int) -> str:
        """What to change in the spec where the data show observations that many rows late, or actions early."""
        if any(op.op == "shift_actions" for op in self._episode_ops()):
            return "Take shift_actions out of the spec's episode_ops: these actions are not early."
        return f"Add {{op: shift_observations, steps: {steps}}} to the spec."

    def early_actions_remedy(self) -> str:
        """What to look at where the data show motion long after its action."""
        if any(op.op == "shift_observations" for op in self._episode_ops()):
            return (
                "Take shift_observations out of the spec's episode_ops, or check whether actions stand rows too early."
            )
        return "Check whether actions stand some rows too early."

    def _episode_ops(self) -> list:
        return self.spec.episode_ops if self.spec else []

    def _has_op(self, group: str, *names: str) -> bool:
        arm = group.partition(".")[0]
        return any(op.op in names and getattr(op, "arm", arm) == arm for op in self._episode_ops())
