"""Every preset, in its tiny form and by the whole way from stream to checkpoint, learns one batch by heart."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.presets import PRESETS, preset
from oxe_pipeline.vla.train_loop import train
from oxe_pipeline.vla.trained import load_trained
from tests.vla.reaching import reaching_stream

ELSEWHERE = {"nano", "octo_base"}
"""nano is trained on one batch in test_train_loop.py; octo_base differs from octo in size alone."""
CHANGES: dict[str, dict] = {
    "rt2": {"steps": 140, "learning_rate": 4e-3},
    "oft": {"steps": 140, "learning_rate": 1e-3},
    "octo": {"cameras": ("primary",)},
}
"""Numbers in digits take longer; an L1 loss needs small steps at its end; black images of a wrist need none at all."""


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one_batch")
    reaching_stream(folder / "reach", episodes=4, held_out=1)
    path = folder / "mix.yaml"
    path.write_text("datasets:\n- {name: reach, path: reach}\n")
    return path


@pytest.mark.parametrize("name", sorted(set(PRESETS) - ELSEWHERE))
def test_the_preset_drives_the_loss_of_one_batch_near_zero(name, mixture_file, tmp_path):
    changes = {"steps": 80, "batch_size": 2, "overfit_batch": True, "checkpoint_every": 1000, "chunk": 2}
    changes, run = {**changes, "learning_rate": 3e-3, **CHANGES.get(name, {})}, tmp_path / "run"
    config = replace(preset(name, tiny=tmp_path / "tiny", **changes), final_share=0.02)
    train(config, load_mixture(mixture_file), run, mixture_file=mixture_file, device=torch.device("cpu"))

    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) / 5 < 0.05 * losses[0]
    assert load_trained(run).step == config.steps
