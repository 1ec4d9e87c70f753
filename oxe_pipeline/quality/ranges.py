"""Audits of ranges, from the statistics of the train split alone: units, slots that never change, and outliers.

What limits a value is physical: how far an arm reaches, how fast a hand moves, how far a joint turns. The limits are
wide, so that a value beyond them is a wrong unit and no odd robot. Raw vectors have no unit to be wrong about; what
theirs look like is only reported.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from oxe_pipeline.episode import Episode
from oxe_pipeline.quality.declared import Declared
from oxe_pipeline.quality.finding import Finding, Verdict, counted
from oxe_pipeline.quality.motion import HAND_M_PER_S
from oxe_pipeline.quality.tally import Sums, Tally
from schemas.slots import ACTION_GROUPS, STATE_GROUPS, SlotGroup

UNITS, CONSTANT, OUTLIERS = "units", "constant_slots", "outliers"
RAW = ("action_raw", "state_raw")
REACH_M = 2.5
"""Arms of OXE reach 0.7 to 1.3 m, from a base that is seldom further than that from the origin of its frame."""
ROOM_M = 20.0
"""As far a robot may drive a hand in the world's frame."""
LEAST_RANGE_M = 0.005
"""A hand whose positions differ by less (q01 to q99) over a whole data set is recorded in a larger unit than metres."""
HAND_RAD_PER_S = 30.0
"""Wrists are built for up to 12 rad/s, and demonstrations stay far below."""
TURN_RAD = 7.0
"""Joint angles stay within a turn either way (2 pi is 6.28)."""
OUTLIER_RANGES = 10.0
"""Distance of the minimum or maximum from q01..q99, in widths of that range. In the published statistics of 38 OXE data
sets 11 of 223 slots are beyond it, in 5 data sets, among them fractal's 22 m steps and bridge's unwrapped angles."""
MAX_NAMED = 8
"""Constant slots that a sentence names."""
MIN_COUNT = 500
"""Values of a slot below which q99 is not far from the maximum anyway."""


def measure(episode: Episode) -> dict[str, Sums]:
    """Raw vector -> `fractional` int [D]: values that are no whole numbers, and `steps`."""
    vectors = {name: getattr(episode, name) for name in RAW}
    return {
        name: {"fractional": (values != np.rint(values)).sum(axis=0), "steps": len(values)}
        for name, values in vectors.items()
        if values.shape[1]
    }


def judge(tally: Tally, declared: Declared) -> list[Finding]:
    """units of each slot group and raw vector, constant_slots and outliers of each vector."""
    found = []
    for vector, groups in (("action", ACTION_GROUPS), ("state", STATE_GROUPS)):
        measured = declared.statistics.get(vector, {})
        for group in groups.values():
            numbers = {name: measured[name] for name in group.slot_names if name in measured}
            if numbers and (finding := _units(vector, group, numbers, declared)):
                found.append(finding)
    known = {vector: measured for vector, measured in declared.statistics.items() if measured}
    found += [_raw_units(vector, known[vector], sums) for vector, sums in tally.of(UNITS) if vector in known]
    found += [constant_slots(vector, known[vector]) for vector in ("action", "state") if vector in known]
    return found + [outliers(vector, known[vector]) for vector in ("action", "state", *RAW) if vector in known]


def _units(vector: str, group: SlotGroup, numbers: Mapping[str, Mapping], declared: Declared) -> Finding | None:
    """None for groups without a length or an angle."""
    kind = group.name.partition(".")[2]
    largest = max(max(abs(slot["q01"]), abs(slot["q99"])) for slot in numbers.values())
    widest = max(slot["q99"] - slot["q01"] for slot in numbers.values())
    what: Literal["action", "state"] = "action" if vector == "action" else "state"
    channel = declared.channel(what, group.name)
    if vector == "action" and kind.startswith("eef") and not declared.is_relative(group.name):
        evidence = "the spec calls this action absolute; only displacements have a usual size."
        return Finding(audit=UNITS, subject=group.name, verdict="unknown", evidence=evidence)
    per_s = 1.0 if channel is not None and channel.kind == "velocity" else declared.control_hz
    shown, wrong = _size(kind, largest, widest, per_s)
    if not shown:
        return None
    in_world = kind == "eef_position" and channel is not None and channel.frame == "world"
    may_drive = in_world and REACH_M < largest <= ROOM_M
    if may_drive:
        wrong = f"{wrong}, unless the robot drives about in the world's frame"
    subject = f"{vector} {group.name}" if kind == "joint_position" else group.name
    values = {"largest": largest, "widest_range": widest}
    if not declared.unit_is_stated(what, group.name):
        evidence = f"{shown} if they are in {group.unit}; no source states the unit."
        return Finding(audit=UNITS, subject=subject, verdict="unknown", evidence=evidence, numbers=values)
    return Finding(
        audit=UNITS,
        subject=subject,
        verdict="suspect" if may_drive else "fault" if wrong else "ok",
        numbers=values,
        evidence=f"{shown} (q01 to q99); {wrong}." if wrong else f"{shown} (q01 to q99).",
        remedy=f"Scale it in the spec to {group.unit}." if wrong else "",
    )


def _size(kind: str, largest: float, widest: float, per_s: float) -> tuple[str, str]:
    """(how large the values are, what is wrong with that or ""); "" for a kind without a length or an angle. `per_s`:
    by what a step's value becomes one of a second."""
    wrong = ""
    if kind == "eef_position":
        if largest > REACH_M:
            wrong = f"no arm reaches beyond {REACH_M} m: {length_guess(largest)}"
        elif 0 < widest < LEAST_RANGE_M:
            wrong = f"a hand moves further than {LEAST_RANGE_M} m: perhaps a larger unit than metres"
        return f"positions reach {largest:.3g} m and range over {widest:.3g} m", wrong
    if kind == "eef_position_delta":
        if largest * per_s > HAND_M_PER_S:
            wrong = f"no hand moves faster than {HAND_M_PER_S} m/s: {length_guess(largest)}, or normalised"
        return f"steps of up to {largest:.3g} m are {largest * per_s:.3g} m/s", wrong
    if kind == "eef_rotation_delta":
        if largest * per_s > HAND_RAD_PER_S:
            wrong = f"no wrist turns faster than {HAND_RAD_PER_S} rad/s: perhaps degrees, or normalised"
        return f"steps of up to {largest:.3g} rad are {largest * per_s:.3g} rad/s", wrong
    if kind == "joint_position":
        if largest > TURN_RAD:
            wrong = f"joints turn by {TURN_RAD} rad at most: {angle_guess(largest)}"
        return f"joint angles reach {largest:.3g} rad", wrong
    return "", ""


def length_guess(largest: float) -> str:
    """What a length of this size may be in, where it cannot be metres."""
    return "perhaps millimetres" if largest > 50 * REACH_M else "perhaps centimetres or millimetres"


def angle_guess(largest: float) -> str:
    """What an angle of this size may be in, where it cannot be radians."""
    return "perhaps degrees" if largest <= 361 else "perhaps servo ticks or encoder counts"


def _raw_units(vector: str, measured: Mapping[str, Mapping], sums: Sums) -> Finding:
    kinds: dict[str, list[int]] = {}
    for column, slot in enumerate(measured.values()):
        whole = bool(sums["fractional"][column] == 0)
        kinds.setdefault(raw_guess(slot["min"], slot["max"], slot["q01"], slot["q99"], whole=whole), []).append(column)
    shown = "; ".join(f"{kind}: {_columns(columns)}" for kind, columns in kinds.items())
    numbers = {"columns": len(measured), "ticks": len(kinds.get("like servo ticks", ()))}
    return Finding(audit=UNITS, subject=vector, verdict="ok", evidence=f"columns look {shown}.", numbers=numbers)


def raw_guess(low: float, high: float, q01: float, q99: float, *, whole: bool) -> str:
    """What the values of one raw column may be, from their range and whether all are whole numbers."""
    size = max(abs(q01), abs(q99))
    if low == high:
        return f"constant at {low:.3g}"
    if whole and high - low > 100:
        return "like servo ticks"
    if whole and size <= 2:
        return "like a flag or a command"
    if size <= 2 * math.pi + 0.1:
        return "like metres, radians or normalised values"
    return "like degrees or centimetres" if size <= 361 else "like millimetres or ticks"


def _columns(columns: list[int]) -> str:
    """3, 4, 5, 7 -> "3-5, 7"."""
    runs = np.split(np.array(columns), np.flatnonzero(np.diff(columns) > 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def constant_slots(vector: str, measured: Mapping[str, Mapping]) -> Finding:
    """Action slots that never change, and state slots that are 0 throughout while others of their group change, are
    suspect: filled where they should be masked. Other constant state slots are named (a hand that cannot turn)."""
    constant = [name for name, slot in measured.items() if slot["min"] == slot["max"]]
    moving = {_group(name) for name in set(measured) - set(constant)}
    filled = [
        name
        for name in constant
        if vector == "action" or (measured[name]["min"] == 0 and "rotation_6d" not in name and _group(name) in moving)
    ]
    if not constant:
        evidence = f"all {len(measured)} slots change."
        return Finding(audit=CONSTANT, subject=vector, verdict="ok", evidence=evidence, numbers={"constant": 0})
    named = [*filled, *(name for name in constant if name not in filled)]
    shown = ", ".join(f"{name} = {measured[name]['min'] + 0.0:.3g}" for name in named[:MAX_NAMED])
    shown += f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    verdict: Verdict = "suspect" if filled else "ok"
    return Finding(
        audit=CONSTANT,
        subject=vector,
        verdict=verdict,
        evidence=f"{len(constant)} of {len(measured)} slots never change: {shown}.",
        numbers={"constant": len(constant), "filled": len(filled)},
        remedy="If the robot lacks what they stand for, leave them out of the spec, so that they are masked."
        if filled
        else "",
    )


def _group(name: str) -> str:
    """arm0.joint_position.j3 -> arm0.joint_position."""
    return ".".join(name.split(".")[:2])


def outliers(vector: str, measured: Mapping[str, Mapping]) -> Finding:
    """Slots whose minimum or maximum lies further than OUTLIER_RANGES widths of q01..q99 outside it. Grippers, whose
    few values make quantiles equal, are left out."""
    beyond = {}
    for name, slot in measured.items():
        width = slot["q99"] - slot["q01"]
        if width <= 0 or slot["count"] < MIN_COUNT or name.endswith("gripper"):
            continue
        distance = max(slot["max"] - slot["q99"], slot["q01"] - slot["min"]) / width
        if distance > OUTLIER_RANGES:
            beyond[name] = distance
    if not beyond:
        evidence = f"no slot of {len(measured)} reaches further than {OUTLIER_RANGES:g} ranges beyond q01 to q99."
        if all(slot["count"] < MIN_COUNT for slot in measured.values()):
            evidence = f"fewer than {MIN_COUNT} values in each slot; too few for quantiles."
            return Finding(audit=OUTLIERS, subject=vector, verdict="unknown", evidence=evidence)
        return Finding(audit=OUTLIERS, subject=vector, verdict="ok", evidence=evidence, numbers={"slots": 0})
    worst = sorted(beyond, key=lambda name: -beyond[name])
    shown = ", ".join(
        f"{name} from {measured[name]['min']:.3g} to {measured[name]['max']:.3g} "
        f"(q01 {measured[name]['q01']:.3g}, q99 {measured[name]['q99']:.3g})"
        for name in worst[:4]
    )
    return Finding(
        audit=OUTLIERS,
        subject=vector,
        verdict="suspect",
        evidence=f"{counted(len(beyond), 'slot')} far outside their quantiles: {shown}.",
        numbers={"slots": len(beyond), "ranges": beyond[worst[0]]},
        remedy="Normalise by quantiles, never by minimum and maximum, and leave out episodes with flag outlier.",
    )
