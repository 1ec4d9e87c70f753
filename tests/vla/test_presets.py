import json
from dataclasses import replace

import pytest

from oxe_pipeline.vla.optimization import learning_rate_share
from oxe_pipeline.vla.presets import PRESETS, preset
from oxe_pipeline.vla.records import config_from_record, config_to_record


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_configuration_survives_json(name):
    config = preset(name, chunk=3, steps=7, ema_decay=0.5)
    assert config_from_record(json.loads(json.dumps(config_to_record(config)))) == config


def test_a_part_or_field_of_a_newer_version_is_refused_by_name():
    record = json.loads(json.dumps(config_to_record(preset("nano"))))
    with pytest.raises(ValueError, match="head 'chunk_l9' is unknown"):
        config_from_record({**record, "model": {**record["model"], "head": {"kind": "chunk_l9"}}})
    with pytest.raises(ValueError, match="field 'novelty' is unknown"):
        config_from_record({**record, "novelty": 1})


def test_an_unknown_preset_gets_the_nearest_names():
    with pytest.raises(ValueError, match="no preset 'nan'; did you mean nano"):
        preset("nan")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"evaluate_windows": 0},
        {"learning_rate": 0.0},
        {"ema_decay": 1.0},
        {"schedule": "linear"},
    ],
)
def test_values_that_do_not_hold_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        preset("nano", **wrong)


def test_the_learning_rate_warms_up_then_falls_to_its_final_share():
    config = replace(preset("nano"), steps=100, warmup_steps=10, final_share=0.1)
    shares = [learning_rate_share(step, config) for step in range(101)]
    assert shares[0] == pytest.approx(1 / 11) and shares[10] == 1.0 == max(shares)
    assert sorted(shares[10:], reverse=True) == shares[10:] and shares[100] == pytest.approx(0.1)
    constant = replace(config, schedule="constant")
    assert [learning_rate_share(step, constant) for step in (10, 50, 100)] == [1.0, 1.0, 1.0]
