"""Which spec is meant by a name: its own, a published one, a misspelt one; and the shipped specs as one collection."""

from typing import get_args

import pytest

from schemas.operations import OPERATIONS
from schemas.spec import SpecError, load_spec, nearest_spec, published_spec, spec_names, variant_names


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["taco_play"], "taco_play"),
        (["fmb"], "fmb_dataset"),
        (["r2d2_faceblur", "droid", "1.0.0"], "droid"),
        (["unknown", "robo_set", "0.1.0"], "roboset"),
        (["bridge_dataset"], "bridge_dataset"),
        (["bridge", "bridge_orig"], "bridge_orig"),
        (["taco_play_as_octo"], "taco_play_as_octo"),
    ],
)
def test_a_published_copy_is_known_by_any_name_it_goes_by(names, meant):
    assert published_spec(*names).name == meant


def test_a_copy_of_no_known_name_is_told_by_its_first():
    with pytest.raises(SpecError, match=r"no spec for data set 'taco_plai' in .*; did you mean taco_play"):
        published_spec("taco_plai", "1.0.0")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fmb", "; did you mean fmb_dataset?"),
        ("fmb_as_octo", "; did you mean fmb_dataset_as_octo?"),
        ("tabletop", "; did you mean utokyo_pr2_tabletop_manipulation_converted_externally_to_rlds"),
        ("zzz", f"; python -m oxe_pipeline.datasets lists all {len(spec_names()) + len(variant_names())}"),
    ],
)
def test_an_unknown_name_gets_what_was_probably_meant(name, hint):
    assert nearest_spec(name, (*spec_names(), *variant_names())).startswith(hint)


def test_no_two_specs_of_published_rlds_go_by_the_same_further_name():
    others = [name for spec in map(load_spec, spec_names()) if spec.source_kind == "rlds" for name in spec.names()[1:]]
    assert len(others) == len(set(others))


@pytest.mark.parametrize("operation", [model.model_fields["op"].annotation for model in OPERATIONS])
def test_every_operation_is_used_by_a_shipped_spec(operation, operations_in_use):
    assert get_args(operation)[0] in operations_in_use


@pytest.fixture(scope="module")
def operations_in_use() -> set[str]:
    specs = [load_spec(name) for name in (*spec_names(), *variant_names())]
    columns = {op.op for spec in specs for channel in (*spec.action, *spec.state) for op in channel.ops}
    return columns | {op.op for spec in specs for op in spec.episode_ops}
