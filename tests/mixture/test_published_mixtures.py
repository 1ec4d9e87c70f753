"""The published mixtures: every name resolves to a spec, weights are those of the published files, and a mixture finds
the streams on which a published model can be trained again."""

import pytest

from oxe_pipeline.mixture.config import MixtureConfigError, mixture_names, named_config, with_streams_below
from schemas.spec import load_spec, spec_names, variant_names

PUBLISHED_SUMS = {
    # data sets, sum of weights, sum of weight times length of name: the last moves when two weights change places
    "octo_rtx": (11, 19.374976, 377.1538),
    "octo_rtx_franka": (25, 41.574976, 1445.9538),
    "octo_oxe_magic_soup": (25, 30.774976, 883.5538),
    "octo_oxe_flex_act_soup": (32, 39.774976, 1046.5538),
    "octo_full": (50, 50.0, 1689.0),
    "openvla_bridge_rt_1": (2, 2.0, 31.0),
    "openvla_rtx": (10, 14.374976, 169.1538),
    "openvla_rtx_franka": (24, 36.574976, 1237.9538),
    "openvla_oxe_magic_soup": (23, 29.574976, 838.7538),
    "openvla_oxe_magic_soup_plus": (27, 31.034976, 851.8538),
    "openvla_oxe_magic_soup_plus_minus": (25, 31.334105, 859.3364),
}
"""Taken from the tables of octo@241fb35 and openvla@c8f03f4, first mention where a name is listed twice."""

OF_ONE_DATA_SET = {
    "octo": ["bridge"],
    "openvla": [
        "bridge",
        "tdroid_carrot_in_bowl",
        "tdroid_pour_corn_in_pot",
        "tdroid_flip_pot_upright",
        "tdroid_move_object_onto_plate",
        "tdroid_knock_object_over",
        "tdroid_cover_object_with_towel",
        "droid_wipe",
        "libero_spatial_no_noops",
        "libero_object_no_noops",
        "libero_goal_no_noops",
        "libero_10_no_noops",
    ],
    "oft": [
        "aloha1_fold_shorts_20_demos",
        "aloha1_fold_shirt_30_demos",
        "aloha1_scoop_X_into_bowl_45_demos",
        "aloha1_put_X_into_pot_300_demos",
    ],
}


def streams(root, *names: str):
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_all_published_mixtures_are_here_and_no_other():
    small = {f"{project}_{name}" for project, names in OF_ONE_DATA_SET.items() for name in names}
    assert set(mixture_names()) == {*PUBLISHED_SUMS, *small, "oft_libero_4_task_suites_no_noops"}


@pytest.mark.parametrize("name", sorted(PUBLISHED_SUMS))
def test_weights_are_as_published(name):
    entries = named_config(name).datasets
    found = (len(entries), sum(e.weight for e in entries), sum(e.weight * len(e.name) for e in entries))
    assert found == pytest.approx(PUBLISHED_SUMS[name], abs=1e-4)


@pytest.mark.parametrize("name", mixture_names())
def test_every_member_has_a_spec_for_published_rlds(name):
    known = spec_names()
    for entry in named_config(name).datasets:
        assert entry.name in known, entry.name
        assert load_spec(entry.name).source_kind == "rlds"


def test_small_mixtures_hold_the_one_data_set_of_their_name():
    for project, names in OF_ONE_DATA_SET.items():
        for name in names:
            (entry,) = named_config(f"{project}_{name}").datasets
            renamed = {"octo_bridge": "bridge_dataset", "openvla_bridge": "bridge_orig"}
            assert entry.name == renamed.get(f"{project}_{name}", name) and entry.weight == 1


@pytest.mark.parametrize("name", mixture_names())
def test_a_mixture_names_the_project_whose_variants_it_was_trained_on(name):
    config = named_config(name)
    assert config.variant == name.partition("_")[0]
    assert f"{config.datasets[0].name}_as_{config.variant}" in variant_names()


def test_published_streams_come_before_plain_ones(tmp_path):
    config = named_config("openvla_libero_10_no_noops")
    plain = with_streams_below(config, streams(tmp_path, "libero_10_no_noops"))
    assert plain.datasets[0].path.endswith("/libero_10_no_noops")
    published = with_streams_below(config, streams(tmp_path, "libero_10_no_noops_as_openvla"))
    assert published.datasets[0].path.endswith("/libero_10_no_noops_as_openvla")
    assert published.datasets[0].name == "libero_10_no_noops"


def test_published_and_plain_streams_do_not_mix(tmp_path):
    config = named_config("oft_libero_4_task_suites_no_noops")
    members = [entry.name for entry in config.datasets]
    streams(tmp_path, *members, f"{members[0]}_as_oft")
    with pytest.raises(MixtureConfigError, match=f"{members[1]} is not; make {members[1]}_as_oft too"):
        with_streams_below(config, tmp_path)
    streams(tmp_path, *(f"{member}_as_oft" for member in members[1:]))
    assert all(entry.path.endswith("_as_oft") for entry in with_streams_below(config, tmp_path).datasets)
