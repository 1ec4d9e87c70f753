"""What the preset is for: on a simple task it learns, from pixels, more than the two predictions that need no model."""

import torch

from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.evaluate import evaluate
from oxe_pipeline.vla.presets import preset
from oxe_pipeline.vla.train_loop import train
from oxe_pipeline.vla.trained import load_trained
from tests.vla.reaching import reaching_stream


def test_nano_beats_the_mean_and_the_previous_action_on_held_out_reaching(tmp_path):
    reaching_stream(tmp_path / "reach", episodes=250, held_out=16)
    mixture_file = tmp_path / "mix.yaml"
    mixture_file.write_text("datasets:\n- {name: reach, path: reach}\n")
    mixture = load_mixture(mixture_file)
    config = preset("nano", steps=300, batch_size=16, evaluate_windows=1)
    train(config, mixture, tmp_path / "run", mixture_file=mixture_file, device=torch.device("cpu"))

    trained = load_trained(tmp_path / "run")
    (result,) = evaluate(trained.model, mixture, trained.normalizers)
    errors = result.error_of_range
    assert errors["model"] < min(errors["previous_action"], errors["mean_action"])
    gripper = next(slot for slot in result.slots if slot.name == "arm0.gripper")
    assert gripper.model > gripper.previous_action
