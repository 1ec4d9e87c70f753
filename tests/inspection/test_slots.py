"""A slot is shown under its own name, unit, source and statistics."""

import pytest

from oxe_pipeline.inspection.report import InspectOptions, make_report
from oxe_pipeline.inspection.slots import SOURCE_UNIT, group_title, grouped, shown_unit, shown_vector, vector_slots
from oxe_pipeline.stream.format import read_manifest, write_manifest
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_stream

SPEC = {
    "name": "alpha",
    "title": "Alpha",
    "lab": "lab",
    "robot": "robot",
    "control_hz": 10,
    "licence": "none",
    "citation": "none",
    "action": [
        {"slots": "arm0.eef_position_delta", "source": "action[0:3]", "kind": "delta", "unit": "m"},
        {"slots": "arm0.eef_rotation_delta", "source": "action[3:6]", "kind": "delta"},
        {"slots": "arm0.gripper", "source": "action[6]", "unit": "1"},
    ],
    "state": [{"slots": "arm0.eef_rotation_6d", "source": "state[3:6]"}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_stream(tmp_path_factory.mktemp("s"), "alpha", episodes=2, held_out=0, image_px=8)


def report_with(folder, **changes):
    write_manifest(folder, read_manifest(folder).model_copy(update=changes))
    return make_report(open_stream(folder), InspectOptions())


def test_slots_carry_unit_source_and_kind_of_their_channel(folder):
    groups = grouped(vector_slots(report_with(folder, spec=SPEC), "action"))
    assert [(group[0].group, shown_unit(group), group[0].source, group[0].kind) for group in groups] == [
        ("arm0.eef_position_delta", "m", "action[0:3]", "delta"),
        ("arm0.eef_rotation_delta", SOURCE_UNIT, "action[3:6]", "delta"),
        ("arm0.gripper", "0 closed, 1 open", "action[6]", "absolute"),
    ]
    assert [slot.label for slot in groups[0]] == ["x", "y", "z"] and groups[2][0].label == "gripper"
    assert group_title(groups[0][0].group) == "arm0 eef position delta"


def test_a_rotation_matrix_has_no_unit_whatever_its_source_had(folder):
    slots = vector_slots(report_with(folder, spec=SPEC), "state")
    assert {slot.unit for slot in slots if slot.group == "arm0.eef_rotation_6d"} == {"no unit"}


def test_a_spec_that_cannot_be_read_costs_sources_not_the_page(folder):
    report = report_with(folder, spec={"name": "of another version"})
    slot = vector_slots(report, "action")[0]
    assert report.spec is None and (slot.unit, slot.source, slot.kind) == ("m", "", "")


def test_statistics_that_say_nothing_are_left_out(folder):
    numbers = {"arm0.gripper": {"count": 0, "mean": float("nan"), "min": float("inf")}}
    slots = vector_slots(report_with(folder, statistics={"action": numbers}), "action")
    assert slots[6].numbers == {"count": 0} and slots[0].numbers == {}


def test_raw_vectors_stand_in_where_no_slot_is_filled(folder):
    assert shown_vector(report_with(folder, action_slots=[0]), "action") == "action"
    report = report_with(folder, action_slots=[])
    assert shown_vector(report, "action") == "action_raw"
    assert [slot.label for slot in vector_slots(report, "action_raw")] == [str(i) for i in range(7)]
