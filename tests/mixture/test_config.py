"""Mixture files: what they say survives writing and reading, and what is wrong in them is named."""

import pytest
import yaml

from oxe_pipeline.mixture.config import (
    MixtureConfig,
    MixtureConfigError,
    mixture_names,
    named_config,
    read_config,
    with_streams_below,
    write_config,
)


def config_of(*names: str, **options) -> MixtureConfig:
    return MixtureConfig.model_validate({"datasets": [{"name": name} for name in names], **options})


def test_a_written_file_reads_back_equal_and_may_be_moved_with_its_streams(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "streams" / name).mkdir(parents=True)
    config = with_streams_below(
        config_of("a", "b", name="two", seed=7, temperature=2.0, schedule=[{"start": 64, "weights": {"a": 0.1}}]),
        tmp_path / "streams",
    )
    write_config(tmp_path / "mix.yaml", config)
    assert read_config(tmp_path / "mix.yaml") == config
    assert [entry["path"] for entry in yaml.safe_load((tmp_path / "mix.yaml").read_text())["datasets"]] == [
        "streams/a",
        "streams/b",
    ]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mix.yaml"]
    tmp_path.rename(tmp_path.with_name("moved"))
    moved = read_config(tmp_path.with_name("moved") / "mix.yaml")
    assert moved.datasets[0].path == str(tmp_path.with_name("moved") / "streams" / "a")


def test_an_overlay_is_a_name_or_a_path_that_moves_with_the_file(tmp_path):
    entries = [
        {"name": "a", "path": str(tmp_path / "a"), "overlay": "no_idle"},
        {"name": "b", "path": "s3://bucket/b", "overlay": str(tmp_path / "overlays" / "b.arrow")},
        {"name": "c", "path": str(tmp_path / "c")},
    ]
    config = MixtureConfig.model_validate({"datasets": entries})
    write_config(tmp_path / "mix.yaml", config)
    assert read_config(tmp_path / "mix.yaml") == config
    assert yaml.safe_load((tmp_path / "mix.yaml").read_text())["datasets"] == [
        {"name": "a", "path": "a", "weight": 1.0, "overlay": "no_idle"},
        {"name": "b", "path": "s3://bucket/b", "weight": 1.0, "overlay": "overlays/b.arrow"},
        {"name": "c", "path": "c", "weight": 1.0},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("datasets: [", "not valid YAML"),
        ("- a", "must hold a mapping of keys, holds list"),
        ("datasets: []", "datasets: List should have at least 1 item"),
        ("datasets: [{name: a, weihgt: 1}]", "datasets.0.weihgt: unknown key; did you mean weight"),
        ("datasets: [{name: a, weight: heavy}]", "datasets.0.weight: .*\\(value: 'heavy'\\)"),
        ("datasets: [{name: a}, {name: a}]", "data set a is listed twice"),
        ("{format: 2, datasets: [{name: a}]}", "format: Input should be 1 \\(value: 2\\)"),
        ("{temperature: 0, datasets: [{name: a}]}", "temperature: .*greater than 0"),
        (
            "{datasets: [{name: a}], schedule: [{start: 64, weights: {a: 1}}, {start: 64, weights: {a: 2}}]}",
            "the schedule says the weights from 64 on twice",
        ),
        (
            "{datasets: [{name: abc}], schedule: [{start: 5, weights: {abd: 1}}]}",
            "no data set 'abd' .* did you mean abc",
        ),
    ],
)
def test_faults_in_a_file_are_named_with_file_key_and_value(tmp_path, content, message):
    path = tmp_path / "mix.yaml"
    path.write_text(content)
    with pytest.raises(MixtureConfigError, match=message) as raised:
        read_config(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MixtureConfigError, match=r"none.yaml: cannot be read \(No such file"):
        read_config(tmp_path / "none.yaml")


def test_missing_data_sets_are_an_error_or_left_out_everywhere(tmp_path):
    (tmp_path / "alpha").mkdir()
    config = config_of("alpha", "beta", schedule=[{"start": 64, "weights": {"alpha": 1, "beta": 2}}])
    with pytest.raises(MixtureConfigError, match="there is no data set 'beta'"):
        with_streams_below(config, tmp_path)
    left_out = []
    kept = with_streams_below(config, tmp_path, on_missing=left_out.append)
    assert left_out == ["beta"]
    assert [entry.name for entry in kept.datasets] == ["alpha"] and kept.schedule[0].weights == {"alpha": 1}
    with pytest.raises(MixtureConfigError, match="holds none of the 1 data sets"):
        with_streams_below(config_of("beta"), tmp_path, on_missing=left_out.append)
    with pytest.raises(MixtureConfigError, match="no such folder"):
        with_streams_below(config, tmp_path / "nowhere")


def test_published_mixtures_hold_the_published_numbers_of_data_sets():
    expected = {
        "octo_bridge": 1,
        "octo_rtx": 11,
        "octo_rtx_franka": 25,
        "octo_oxe_magic_soup": 25,
        "octo_oxe_flex_act_soup": 32,
        "octo_full": 50,
        "openvla_bridge": 1,
        "openvla_bridge_rt_1": 2,
        "openvla_rtx": 10,
        "openvla_rtx_franka": 24,
        "openvla_oxe_magic_soup": 23,
        "openvla_oxe_magic_soup_plus": 27,
        "openvla_oxe_magic_soup_plus_minus": 25,
        "oft_libero_4_task_suites_no_noops": 4,
    }
    assert {name: len(named_config(name).datasets) for name in expected} == expected
    for name in mixture_names():
        config = named_config(name)
        assert config.name == name and "@" in config.source and not any(entry.path for entry in config.datasets)


def test_published_weights_are_spot_on():
    """Sum 19.375 and 14.375 are worked examples of the published arithmetic; a name listed twice keeps its first."""
    weights = {n: {e.name: e.weight for e in named_config(n).datasets} for n in ("octo_rtx", "openvla_rtx_franka")}
    assert sum(weights["octo_rtx"].values()) == pytest.approx(19.375, abs=1e-3)
    assert sum(entry.weight for entry in named_config("openvla_rtx").datasets) == pytest.approx(14.375, abs=1e-3)
    assert weights["openvla_rtx_franka"]["taco_play"] == 2
    assert weights["openvla_rtx_franka"]["berkeley_cable_routing"] == 3
    assert weights["octo_rtx"]["nyu_door_opening_surprising_effectiveness"] == 5


def test_an_unknown_mixture_is_answered_with_those_of_that_name():
    with pytest.raises(MixtureConfigError, match="no mixture 'rtx'; did you mean octo_rtx, openvla_rtx"):
        named_config("rtx")
