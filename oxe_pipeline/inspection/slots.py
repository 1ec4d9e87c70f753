"""The columns of a stream's vectors with what a chart wants to know of each: name, group, unit, statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from math import isfinite

from oxe_pipeline.inspection.report import Report
from schemas.slots import ACTION_GROUPS, ACTION_NAMES, STATE_GROUPS, STATE_NAMES, slot_unit
from schemas.spec_parts import Channel, slot_indices

SOURCE_UNIT = "source unit"
"""Of a slot whose unit the source does not state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotFacts:
    """One column."""

    column: int
    """Of the stream's array."""
    name: str
    group: str
    """ "arm0.eef_position_delta"; the vector's name for raw vectors."""
    label: str
    """Within the group; the group's last word where it has one slot only."""
    unit: str
    source: str
    """Key and slice of the source that fills it, "" where the spec is not known."""
    kind: str
    """"delta", "absolute", "velocity", or "" where the spec is not known."""
    numbers: Mapping[str, float]
    """Statistics of the manifest: count, mean, std, min, max, q01, q99; {} where there are none."""


def vector_slots(report: Report, vector: str) -> list[SlotFacts]:
    """Columns of "action" or "state" in slot order, or of "action_raw" or "state_raw" in the source's order."""
    manifest = report.manifest
    measured = {name: _finite(numbers) for name, numbers in manifest.statistics.get(vector, {}).items()}
    if vector in ("action_raw", "state_raw"):
        width = manifest.action_raw_width if vector == "action_raw" else manifest.state_raw_width
        names = [f"{vector}.{i}" for i in range(width)]
        return [
            SlotFacts(
                column=i, name=name, group=vector, label=str(i), unit=SOURCE_UNIT, source="", kind="",
                numbers=measured.get(name, {}),
            )
            for i, name in enumerate(names)
        ]  # fmt: skip
    slot_names, slots = (
        (ACTION_NAMES, manifest.action_slots) if vector == "action" else (STATE_NAMES, manifest.state_slots)
    )
    channels = _channels(report, vector)
    return [
        _unified_slot(column, slot_names[slot], channels.get(slot), measured.get(slot_names[slot], {}))
        for column, slot in enumerate(slots)
    ]


def group_title(group: str) -> str:
    """ "arm0.eef_position_delta" as words."""
    return group.replace(".", " ").replace("_", " ")


def shown_unit(slots: list[SlotFacts]) -> str:
    """The unit of a group's slots; where they differ, all of them in slot order."""
    units = [slot.unit for slot in slots]
    return units[0] if len(set(units)) == 1 else ", ".join(units)


def shown_vector(report: Report, vector: str) -> str:
    """`vector` ("action" or "state"), or its raw form where the data set fills none of its slots."""
    filled = report.manifest.action_slots if vector == "action" else report.manifest.state_slots
    return vector if filled else f"{vector}_raw"


def grouped(slots: list[SlotFacts]) -> list[list[SlotFacts]]:
    """Neighbours of one group together."""
    return [list(group) for _, group in groupby(slots, key=lambda slot: slot.group)]


def _unified_slot(column: int, name: str, channel: Channel | None, numbers: Mapping[str, float]) -> SlotFacts:
    group = next(group for group in (*ACTION_GROUPS.values(), *STATE_GROUPS.values()) if name in group.slot_names)
    label = group.labels[group.slot_names.index(name)]
    return SlotFacts(
        column=column,
        name=name,
        group=group.name,
        label=label or group.name.rpartition(".")[2],
        unit=_unit(group.name, name, channel),
        source=channel.source if channel else "",
        kind=channel.kind if channel else "",
        numbers=numbers,
    )


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Statistics that say something: without train steps they are NaN."""
    return {key: value for key, value in numbers.items() if isfinite(value)}


def _unit(group: str, name: str, channel: Channel | None) -> str:
    """In words where "1" would say nothing. A rotation's columns have no unit, whatever the source's angles had."""
    if group.endswith(".gripper"):
        return "0 closed, 1 open"
    if channel is not None and channel.unit == "source" and not group.endswith(".eef_rotation_6d"):
        return SOURCE_UNIT
    unit = slot_unit(name)
    return "no unit" if unit == "1" else unit


def _channels(report: Report, vector: str) -> dict[int, Channel]:
    if report.spec is None:
        return {}
    if vector == "action":
        return {index: channel for channel in report.spec.action for index in slot_indices(channel.slots, "action")}
    return {index: channel for channel in report.spec.state for index in slot_indices(channel.slots, "state")}
