import json
import math
from dataclasses import replace

import pytest

from oxe_pipeline.loader.augment import AugmentOptions
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.heads.fast_tokens import FastTokensConfig
from oxe_pipeline.vla.optimization import learning_rate_share
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.records import config_from_record, config_to_record
from tests.synthetic import make_stream


def test_every_field_survives_json():
    config = preset(
        "nano",
        augment=AugmentOptions(crop_area=(0.8, 1.0), image_size=(64, 48), hue=0.0),
        cameras=("wrist", "primary"),
        freeze=("head.*",),
        betas=(0.8, 0.9),
        chunk_s=0.5,
        normalizer="mean_std",
    )
    assert config_from_record(json.loads(json.dumps(config_to_record(config)))) == config
    assert config_from_record(json.loads(json.dumps(config_to_record(preset("nano"))))).augment is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"normalizer": "quantiles"},
        {"sharding": "zero"},
        {"lora_rank": -1},
        {"lora_alpha": 0.0},
        {"betas": (0.9, 1.0)},
        {"camera_dropout": 1.5},
        {"cameras": ("front",)},
        {"chunk_s": 0.0},
        {"keep_best": True},
        {"overfit_batch": True, "keep_best": True, "evaluate_every": 5},
    ],
)
def test_values_that_do_not_hold_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        preset("nano", **wrong)


def test_the_inverse_square_root_goes_on_from_the_peak_and_needs_no_end():
    config = preset("nano", schedule="rsqrt", warmup_steps=16, steps=50)
    shares = {step: learning_rate_share(step, config) for step in (0, 15, 16, 16 + 30_000, 16 + 990_000)}
    assert shares == {0: 1 / 17, 15: 16 / 17, 16: 1.0, 16 + 30_000: 0.5, 16 + 990_000: 0.1}
    without_warmup = replace(config, warmup_steps=0)
    assert [learning_rate_share(step, without_warmup) for step in (0, 30_000)] == [1.0, 0.5]


def test_batches_are_made_as_the_configuration_says():
    config = preset("octo", chunk=4, history=2, normalizer="min_max", cameras=("primary",), chunk_s=1.0)
    options = BatchOptions(**config.batch_options(image_size=32))
    assert (options.chunk, options.history, options.size, options.chunk_s) == (4, 2, (32, 32), 1.0)
    assert (options.cameras, options.goal_images, options.normalizer.mode) == (("primary",), True, "min_max")


def test_goal_images_for_a_model_that_would_not_see_them_are_refused():
    with pytest.raises(ValueError, match="goal_images: backbone nano learns its task from texts alone"):
        preset("nano", goal_images=True)


def test_a_head_that_fits_something_to_the_data_is_prepared_once(tmp_path):
    make_stream(tmp_path / "one", "one", episodes=3, held_out=0)
    (tmp_path / "mix.yaml").write_text("datasets:\n- {name: one, path: one}\n")
    mixture, config = load_mixture(tmp_path / "mix.yaml"), preset("nano", chunk=3)
    assert config.prepared(mixture) is config
    fast = replace(config, model=replace(config.model, head=FastTokensConfig(vocabulary=128)))
    prepared = fast.prepared(mixture)
    assert not fast.model.head.codec and prepared.model.head.codec
    assert prepared.prepared(mixture) == prepared
    assert math.isclose(prepared.model.head.scale, fast.model.head.scale)
