"""The unified action and state vectors: one name, one index, one unit for every slot.

Every robot shares these two layouts. What a robot lacks is masked, never zero-filled in silence, so a single arm, a
bimanual station and a mobile base fit one tensor shape. The price is a few unused floats per step.
"""

from dataclasses import dataclass

ACTION_WIDTH = 32
STATE_WIDTH = 40
RAW_WIDTH = 64
CAMERAS = ("primary", "secondary", "wrist", "wrist_left")


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotGroup:
    """A named run of neighbouring slots, e.g. the three metres of an end-effector displacement."""

    name: str
    start: int
    labels: tuple[str, ...]
    unit: str
    """SI unit of every slot of the group; "1" for dimensionless."""

    @property
    def width(self) -> int:
        return len(self.labels)

    @property
    def indices(self) -> range:
        return range(self.start, self.start + self.width)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return tuple(f"{self.name}.{label}" if label else self.name for label in self.labels)


_XYZ = ("x", "y", "z")
_JOINTS = tuple(f"j{i}" for i in range(7))
_ROTATION_6D = ("r00", "r10", "r20", "r01", "r11", "r21")


def _layout(groups: list[tuple[str, tuple[str, ...], str]]) -> dict[str, SlotGroup]:
    table, start = {}, 0
    for name, labels, unit in groups:
        table[name] = SlotGroup(name=name, start=start, labels=labels, unit=unit)
        start += len(labels)
    return table


def _arm_action(arm: str) -> list[tuple[str, tuple[str, ...], str]]:
    return [
        (f"{arm}.eef_position_delta", _XYZ, "m"),
        (f"{arm}.eef_rotation_delta", _XYZ, "rad"),
        (f"{arm}.gripper", ("",), "1"),
        (f"{arm}.joint_position", _JOINTS, "rad"),
    ]


def _arm_state(arm: str) -> list[tuple[str, tuple[str, ...], str]]:
    return [
        (f"{arm}.eef_position", _XYZ, "m"),
        (f"{arm}.eef_rotation_6d", _ROTATION_6D, "1"),
        (f"{arm}.gripper", ("",), "1"),
        (f"{arm}.joint_position", _JOINTS, "rad"),
    ]


ACTION_GROUPS = _layout(
    [
        *_arm_action("arm0"),
        *_arm_action("arm1"),
        ("base_velocity", ("x", "y", "yaw"), "m/s, m/s, rad/s"),
        ("terminate", ("",), "1"),
    ]
)
"""Action: displacement of the end effector in the base frame [m], its rotation vector [rad], gripper 0 closed to 1 open
(absolute), joint targets [rad], for two arms; then the base's velocity and the terminate flag."""

STATE_GROUPS = _layout(
    [
        *_arm_state("arm0"),
        *_arm_state("arm1"),
        ("base_pose", ("x", "y", "cos_yaw", "sin_yaw"), "m, m, 1, 1"),
        ("reserved", ("0", "1"), "1"),
    ]
)
"""State: pose of each end effector in the base frame; rotation as the first two columns of its matrix (6-D, continuous:
Zhou et al. 2019, arXiv 1812.07035), gripper 0 closed to 1 open, joints; then the base's pose."""

ACTION_NAMES = tuple(name for group in ACTION_GROUPS.values() for name in group.slot_names)
STATE_NAMES = tuple(name for group in STATE_GROUPS.values() for name in group.slot_names)


def slot_unit(name: str) -> str:
    """Unit of one slot (a name out of ACTION_NAMES or STATE_NAMES); KeyError for any other name."""
    for group in (*ACTION_GROUPS.values(), *STATE_GROUPS.values()):
        if name in group.slot_names:
            units = group.unit.split(", ")
            return units[group.slot_names.index(name)] if len(units) > 1 else units[0]
    raise KeyError(name)
